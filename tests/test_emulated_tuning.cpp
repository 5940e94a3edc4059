// Products that are timed before one of cuBLASLt's choices is taken: of those that the emulated
// library offers, one has other bits and one fails.
#include <cublasLt.h>
#include <doctest/doctest.h>
#include <tendril/tendril.h>

#include <tendril/core/cuda/product.cuh>

#include <vector>

using namespace tendril;

namespace {

// As many that their order shows in some of the sums, rounded to f16.
constexpr int64_t kTerms = 2000;

struct TunesEverything {
  double before = cuda::tuned_product_flops();
  TunesEverything() { cuda::tune_products_from(1.0); }
  ~TunesEverything() { cuda::tune_products_from(before); }
};

Tensor random(const Shape& shape, DType dtype, uint64_t seed) {
  return to(to(rand(shape, f32, RandomKey{seed, 0, Stream::data}) - 0.5, dtype), Device::cuda());
}

// An f32 product is never timed: its sums, rounded, are those of the library's first choice.
Tensor first_choice(const Tensor& a, const Tensor& b, DType dtype) {
  return to(matmul(to(a, f32), to(b, f32)), dtype);
}

int64_t differences(const Tensor& a, const Tensor& b) {
  const Tensor left = to(to(a, f32), Device::cpu()), right = to(to(b, f32), Device::cpu());
  int64_t count = 0;
  for (int64_t i = 0; i < left.numel(); ++i)
    count += left.data<float>()[i] != right.data<float>()[i];
  return count;
}

}  // namespace

TEST_SUITE("emulated tuning") {
  TEST_CASE("the bits are those of the first choice, whichever is the fastest") {
    const TunesEverything tunes;
    for (int64_t n = 40; n < 72; n += 8) {
      CAPTURE(n);
      const Tensor a = random({48, kTerms}, f16, 1), b = random({kTerms, n}, f16, 2);
      const Tensor expected = first_choice(a, b, f16);
      for (int time = 0; time < 3; ++time) {
        CHECK(differences(matmul(a, b), expected) == 0);
        CHECK(emulatedVariantOfLastProduct() == 1);  // the first one is slower
      }
    }
  }

  TEST_CASE("sums that are added to are left alone by the measurement") {
    const TunesEverything tunes;
    const Tensor a = random({64, 96}, bf16, 5), b = random({96, 48}, bf16, 6);
    const Tensor sums = random({64, 48}, bf16, 7), untimed = to(sums, f32);
    for (int time = 0; time < 3; ++time) {
      cuda::product("test", a, b, sums, {.accumulate = true});
      cuda::product("test", to(a, f32), to(b, f32), untimed, {.accumulate = true});
      CHECK(differences(sums, to(untimed, bf16)) == 0);
      copy_(untimed, sums);
    }
  }

  TEST_CASE("operands that any order sums alike do not mislead it") {
    const TunesEverything tunes;
    for (const double value : {0.0, 1.0}) {
      const Tensor a = full({48, kTerms}, value, f16, Device::cuda()),
                   b = random({kTerms, 56}, f16, 3);
      const Tensor product = matmul(a, b);
      CHECK(emulatedVariantOfLastProduct() == 1);
      CHECK(differences(product, first_choice(a, b, f16)) == 0);
      const Tensor c = random({48, kTerms}, f16, 4);
      CHECK(differences(matmul(c, b), first_choice(c, b, f16)) == 0);
    }
  }
}
