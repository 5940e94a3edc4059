// Libraries opened while the program runs. The mathematics library of the system is one that every
// machine of ours has.
#include <doctest/doctest.h>
#include <tendril/core/shared_library.h>

#include <string>

#include "test_tools.h"

using namespace tendril;
using tendril::testing::contains;
using tendril::testing::message_of;

namespace {

const char* const kAdvice = "install it";

}  // namespace

TEST_SUITE("shared library") {
  TEST_CASE("the first candidate that opens is taken and its functions work") {
    const SharedLibrary library("op", {"libtendril_no_such_library.so.1", "libm.so.6"}, kAdvice);
    CHECK(library.name() == "libm.so.6");
    auto* const cube_root = library.function<double(double)>("cbrt");
    CHECK(cube_root(27.0) == doctest::Approx(3.0));
  }

  TEST_CASE("when none opens the error lists each of them, the reasons and the advice") {
    const auto open = [] {
      SharedLibrary("op", {"libtendril_first.so", "/nowhere/libtendril_second.so"}, kAdvice);
    };
    const std::string message = message_of(open);
    for (const char* part : {"[op]", "libtendril_first.so: ", "/nowhere/libtendril_second.so: ",
                             "No such file", "install it"})
      CHECK_MESSAGE(contains(message, part), part, " is missing in ", message);
  }

  TEST_CASE("a function that the library does not have is an error with both names") {
    const SharedLibrary library("op", {"libm.so.6"}, kAdvice);
    const std::string message = message_of([&] { library.function<void()>("tendril_nothing"); });
    CHECK(contains(message, "libm.so.6"));
    CHECK(contains(message, "tendril_nothing"));
  }
}
