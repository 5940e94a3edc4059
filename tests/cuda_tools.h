// What the tests of the CUDA back end share.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include <tendril/core/cuda.h>

namespace tendril::testing {

/// Whether the running test case must be left out because there is no GPU; says so.
inline bool skipped_without_gpu() {
  if (cuda::is_available()) return false;
  const std::string reason = cuda::is_built() ? "no GPU can be used here" : "built without CUDA";
  MESSAGE("skipped: ", reason);
  return true;
}

/// The first one; or the one whose number TENDRIL_TEST_GPU is, where the same tests must hold.
inline Device gpu_under_test() {
  const char* number = std::getenv("TENDRIL_TEST_GPU");
  return Device::cuda(number && *number ? std::stoi(number) : 0);
}

/// The same for a test that needs two; one is no fault of the machine.
inline bool skipped_without_two_gpus() {
  if (cuda::device_count() >= 2) return false;
  MESSAGE("left out: needs two GPUs; got ", cuda::device_count());
  return true;
}

/// Whether the GPU is the one of tests/gpu/emulated, on which large shapes take minutes.
inline bool gpu_is_emulated() { return cuda::properties(Device::cuda()).name == "emulated GPU"; }

/// Each number within `tolerance` of the expected one, relatively.
inline void check_near(const std::vector<double>& got, const std::vector<double>& expected,
                       double tolerance) {
  REQUIRE(got.size() == expected.size());
  REQUIRE_FALSE(expected.empty());
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(got[i] - expected[i]) <= tolerance * std::abs(expected[i]));
  }
}

/// Runs one of many comparisons on the GPU. An Error, also one that only shows when the GPU is
/// waited for, is a failed check that names the comparison; the others go on.
template <class Body>
void check_on_gpu(const std::string& label, const Body& body) {
  CAPTURE(label);
  try {
    body();
    cuda::synchronize(gpu_under_test());
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK_MESSAGE(false, label, ": ", message);
  }
}

}  // namespace tendril::testing
