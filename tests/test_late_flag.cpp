// Flags that the host hears of when it likes.
#include <doctest/doctest.h>
#include <tendril/core/creation.h>
#include <tendril/core/late_flag.h>
#include <tendril/core/ops/copy.h>

#include <optional>
#include <vector>

#include "cuda_tools.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

TEST_SUITE("late_flag") {
  TEST_CASE("on the CPU a flag is known at once, and only one i64 is a flag") {
    CHECK(LateFlag().seen() == false);
    CHECK_FALSE(LateFlag().value());
    for (const double value : {0.0, 1.0, -3.0}) {
      const LateFlag flag(full({}, value, i64));
      CHECK(flag.seen() == (value != 0.0));
      CHECK(flag.has_arrived());
      CHECK(flag.value() == (value != 0.0));
    }
    CHECK(contains(message_of([] { LateFlag(zeros({})); }), "needs one i64"));
    CHECK_THROWS_AS(LateFlag(zeros({2}, i64)), Error);
  }

  TEST_CASE("a GPU's flag arrives by itself, as it was when the flag was made") {
    if (skipped_without_gpu()) return;
    const Device gpu = gpu_under_test();
    for (const double value : {0.0, 1.0}) {
      const Tensor number = full({}, value, i64, gpu);
      const LateFlag flag(number), same = flag;
      ops::fill(number, 1.0 - value);
      CHECK(flag.seen() == std::nullopt);
      CHECK(flag.value() == (value == 1.0));
      CHECK(same.seen() == (value == 1.0));
      CHECK(same.has_arrived());
      CHECK(LateFlag(number).value() == (value == 0.0));
      CHECK(LateFlag(number, /*known=*/true).seen() == true);
    }
  }

  TEST_CASE("many at a time, in whatever order they are asked and forgotten") {
    if (skipped_without_gpu()) return;
    std::vector<LateFlag> flags;
    for (int i = 0; i < 40; ++i) {
      flags.emplace_back(full({}, i % 3 == 0, i64, gpu_under_test()));
      LateFlag(full({}, 1.0, i64, gpu_under_test()));  // forgotten before it can have arrived
    }
    for (int i = 39; i >= 0; --i) CHECK(flags[static_cast<size_t>(i)].value() == (i % 3 == 0));
    const LateFlag last = flags.back();
    for (int questions = 0; !last.has_arrived(); ++questions) REQUIRE(questions < 1000000);
    CHECK(last.value());
  }
}
