// Random tensors that are drawn on a GPU.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>

#include "cuda_tools.h"
#include "golden_values.h"
#include "op_harness.h"

using namespace tendril;
using namespace tendril::testing;

TEST_SUITE("cuda_random") {
  TEST_CASE("uniform numbers are the CPU's to the bit, normal ones but for the last") {
    if (skipped_without_gpu()) return;
    for (const int64_t size : {0, 1, 5, 1024, 100003})
      for (const DType dtype : {f64, f32, bf16, f16}) {
        const RandomKey key{.seed = 7, .position = 3, .stream = Stream::noise};
        CHECK(same_bits(rand({size}, dtype, key), rand({size}, dtype, key, Device::cuda())));
        const Tensor here = randn({size}, dtype, key);
        const Tensor there = randn({size}, dtype, key, Device::cuda());
        const double spacing = dtype == f64 ? 1e-14 : dtype == f32 ? 1.2e-7 : 0x1p-7;
        CHECK(golden_deviation(there, here) <= spacing);
      }
  }

  TEST_CASE("without a key each draw is a new one, in the order of the CPU's") {
    if (skipped_without_gpu()) return;
    manual_seed(4);
    const Tensor a = rand({9}, f32, {}, Device::cuda()), b = rand({9}, f32, {}, Device::cuda());
    manual_seed(4);
    CHECK(same_bits(rand({9}), a));
    CHECK(same_bits(rand({9}), b));
    CHECK_FALSE(same_bits(a, b));
  }
}
