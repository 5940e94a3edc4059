#include <tendril/core/ops/loss_scaling.h>

#include <atomic>
#include <cmath>
#include <vector>

#include <tendril/core/for_each_tensor.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/loss_scaling_rule.h>
#include <tendril/core/ops/memory_order.h>
#include <tendril/core/threads.h>

namespace tendril::ops {

namespace cpu {
namespace {

constexpr int64_t kChunk = int64_t{1} << 15;  // elements per piece of work

// Whether all were finite.
template <class T>
bool unscale_piece(T* x, int64_t count, float inverse) {
  using C = compute_t<T>;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    const C value = static_cast<C>(x[i]);
    finite &= std::isfinite(value);
    x[i] = static_cast<T>(value * static_cast<C>(inverse));
  }
  return finite;
}

}  // namespace

void unscale_all(std::span<const Tensor> tensors, const Tensor& scale, const Tensor& found_inf) {
  const float inverse = inverse_loss_scale(*scale.data<float>());
  std::atomic<bool> finite = true;
  for_each_tensor(
      tensors.size(), [&](size_t i) { return tensors[i].numel(); },
      [&](size_t i) {
        visit_floating("unscale", tensors[i].dtype(), [&]<class T>(TypeTag<T>) {
          T* const data = tensors[i].data<T>();
          parallel_for(tensors[i].numel(), kChunk, [&](int64_t begin, int64_t end) {
            if (!unscale_piece(data + begin, end - begin, inverse)) finite = false;
          });
        });
      });
  if (!finite) *found_inf.data<int64_t>() = 1;
}

void update_loss_scale(const Tensor& scale, const Tensor& tracker, const Tensor& found_inf,
                       const LossScaleRule& rule) {
  move_loss_scale(*scale.data<float>(), *tracker.data<int64_t>(), *found_inf.data<int64_t>() != 0,
                  rule);
}

}  // namespace cpu

namespace cuda {  // loss_scaling.cu
void unscale_all(std::span<const Tensor> tensors, const Tensor& scale, const Tensor& found_inf);
void update_loss_scale(const Tensor& scale, const Tensor& tracker, const Tensor& found_inf,
                       const LossScaleRule& rule);
}  // namespace cuda

namespace {

void require_number(const char* op, const char* what, const Tensor& x, DType dtype) {
  TENDRIL_CHECK(x.dtype() == dtype && x.numel() == 1, "[", op, "] ", what, " must be one ", dtype,
                "; got ", x.dtype(), " ", x.shape());
}

}  // namespace

void unscale_all(std::span<const Tensor> tensors, const Tensor& scale, const Tensor& found_inf) {
  require_number("unscale", "the scale", scale, f32);
  require_number("unscale", "found_inf", found_inf, i64);
  require_same_device("unscale", scale, found_inf);
  std::vector<Tensor> dense;
  for (const Tensor& tensor : tensors) {
    require_same_device("unscale", scale, tensor);
    visit_floating("unscale", tensor.dtype(), [](auto) {});
    dense.push_back(in_memory_order(tensor));
  }
  if (dense.empty()) return;
  TENDRIL_ON_DEVICE(scale, unscale_all(dense, scale, found_inf));
  for (size_t i = 0; i < dense.size(); ++i)
    if (dense[i].storage() != tensors[i].storage()) copy(tensors[i], dense[i]);
}

void update_loss_scale(const Tensor& scale, const Tensor& tracker, const Tensor& found_inf,
                       const LossScaleRule& rule) {
  require_number("loss_scale", "the scale", scale, f32);
  require_number("loss_scale", "the tracker", tracker, i64);
  require_number("loss_scale", "found_inf", found_inf, i64);
  require_same_device("loss_scale", scale, tracker, found_inf);
  TENDRIL_ON_DEVICE(scale, update_loss_scale(scale, tracker, found_inf, rule));
}

}  // namespace tendril::ops
