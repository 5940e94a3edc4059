// Storage whose memory a StorageSource provides when an operation asks for it.
#include <doctest/doctest.h>

#include <tendril/autograd/functions.h>
#include <tendril/core/allocator.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>

namespace {

using namespace tendril;

// Numbers that come and go, and how often they were asked for.
struct Lent : StorageSource {
  void* provide() override {
    ++asked;
    if (!memory.defined()) memory = ops::clone(origin);
    return memory.raw_data();
  }
  Tensor origin, memory;
  int asked = 0;
};

Tensor on_demand(const std::shared_ptr<Lent>& lent) {
  const Shape& shape = lent->origin.shape();
  return Tensor::view(Storage::on_demand(lent->origin.nbytes(), Device::cpu(), lent), 0, shape,
                      contiguous_strides(shape), lent->origin.dtype());
}

}  // namespace

TEST_SUITE("on-demand storage") {
  TEST_CASE("handles, views and shapes ask for nothing; operations do") {
    const auto lent = std::make_shared<Lent>();
    lent->origin = Tensor::from({1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f}, {2, 3});
    const Tensor x = on_demand(lent);
    const Tensor turned = transpose(x), row = slice(x, 0, 1, 2), off_tape = x.detach();
    CHECK(x.numel() == 6);
    CHECK(turned.size(0) == 3);
    CHECK(lent->asked == 0);
    CHECK(sum(turned).item<float>() == 21.0f);
    CHECK(lent->asked > 0);
    CHECK(row.to_vector<float>() == std::vector<float>{4.0f, 5.0f, 6.0f});
  }

  TEST_CASE("what backward has saved is read from memory that came back") {
    const auto lent = std::make_shared<Lent>();
    lent->origin = Tensor::from({2.0f, -1.0f}, {1, 2});
    Tensor w = on_demand(lent);
    w.requires_grad_();
    Tensor x = full({3, 2}, 1.0);
    x.requires_grad_();
    const Tensor loss = sum(linear(x, w));
    lent->memory = {};  // released between the passes
    loss.backward();
    CHECK(lent->memory.defined());
    CHECK(w.grad().to_vector<float>() == std::vector<float>{3.0f, 3.0f});
    CHECK(x.grad().to_vector<float>() == std::vector<float>{2.0f, -1.0f, 2.0f, -1.0f, 2.0f, -1.0f});
  }
}
