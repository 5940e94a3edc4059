#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <sstream>

#include <tendril/core/tensor.h>

using namespace tendril;

namespace {
std::string print(std::initializer_list<float> values) {
  const std::string text =
      to_string(Tensor::from<float>(values, {static_cast<int64_t>(values.size())}));
  return text.substr(0, text.rfind(']') + 1);  // the numbers without dtype, shape and device
}
}  // namespace

TEST_SUITE_BEGIN("print");

TEST_CASE("matrices: aligned columns, then dtype, shape and device") {
  CHECK(to_string(Tensor::from<float>({1, 2, 3, 4}, {2, 2})) ==
        "[[1, 2],\n [3, 4]] f32 (2, 2) cpu");
  CHECK(to_string(Tensor::from<int64_t>({1, -20, 300, 4}, {2, 2})) ==
        "[[  1, -20],\n [300,   4]] i64 (2, 2) cpu");
  CHECK(to_string(Tensor::from<uint8_t>({1, 255}, {2})) == "[  1, 255] u8 (2,) cpu");
  CHECK(to_string(Tensor::from<bool>({true, false}, {2})) == "[ true, false] bool (2,) cpu");
  std::ostringstream out;
  out << std::hex << Tensor::from<int32_t>({10, 11}, {2});
  CHECK(out.str() == "[10, 11] i32 (2,) cpu");
}

TEST_CASE("blocks are set apart by empty lines") {
  CHECK(to_string(Tensor::from<int32_t>({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2})) ==
        "[[[1, 2],\n  [3, 4]],\n\n [[5, 6],\n  [7, 8]]] i32 (2, 2, 2) cpu");
}

TEST_CASE("floats share a precision of at most four digits") {
  CHECK(print({1, 2.5f, -3.25f}) == "[ 1.00,  2.50, -3.25]");
  CHECK(print({0.1f, 3.14159265f}) == "[0.1000, 3.1416]");
  CHECK(print({1, 100000, 3}) == "[     1, 100000,      3]");
  CHECK(print({0, -0.0f}) == "[ 0, -0]");
  CHECK(print({0.001f, 0.5f}) == "[0.001, 0.500]");
}

TEST_CASE("scientific notation when the range demands it") {
  CHECK(print({1e-5f, 1}) == "[1e-05, 1e+00]");
  CHECK(print({1.5e10f, 2}) == "[1.5e+10, 2.0e+00]");
  CHECK(print({0.01f, 123.456f}) == "[1.0000e-02, 1.2346e+02]");
  CHECK(to_string(Tensor::from<double>({-1.25e-300, 1e300}, {2})) ==
        "[-1.25e-300,  1.00e+300] f64 (2,) cpu");
  CHECK(to_string(Tensor::from<double>({5e-324}, {})) == "4.9407e-324 f64 () cpu");
}

TEST_CASE("nan and infinities do not spoil the format of the others") {
  CHECK(print({NAN, INFINITY, -INFINITY, 1.5f}) == "[ nan,  inf, -inf,  1.5]");
  CHECK(print({NAN, NAN}) == "[nan, nan]");
}

TEST_CASE("16-bit floats print their value") {
  CHECK(to_string(Tensor::from<bfloat16>({bfloat16(1.5f), bfloat16(0.1f)}, {2})) ==
        "[1.5000, 0.1001] bf16 (2,) cpu");
  CHECK(to_string(Tensor::from<float16>({float16(65504.0f)}, {1})) == "[65504] f16 (1,) cpu");
}

TEST_CASE("scalars, empty and undefined tensors") {
  CHECK(to_string(Tensor::from<float>({3.5f}, {})) == "3.5 f32 () cpu");
  CHECK(to_string(Tensor::from<bool>({true}, {})) == "true bool () cpu");
  CHECK(to_string(Tensor::empty({0})) == "[] f32 (0,) cpu");
  CHECK(to_string(Tensor::empty({2, 0, 3}, i64)) == "[] i64 (2, 0, 3) cpu");
  CHECK(to_string(Tensor()) == "undefined tensor");
}

TEST_CASE("strided tensors print in logical order") {
  const Tensor x = Tensor::from<int32_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(to_string(Tensor::view(x.storage(), 0, {3, 2}, {1, 3}, i32)) ==
        "[[1, 4],\n [2, 5],\n [3, 6]] i32 (3, 2) cpu");
  CHECK(to_string(Tensor::view(x.storage(), 5, {3}, {-2}, i32)) == "[6, 4, 2] i32 (3,) cpu");
  CHECK(to_string(Tensor::view(x.storage(), 1, {3}, {0}, i32)) == "[2, 2, 2] i32 (3,) cpu");
}

TEST_CASE("long axes are shortened beyond 1000 elements") {
  std::vector<int32_t> values(1200);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int32_t>(i);
  CHECK(to_string(Tensor::from(values, {1200})) ==
        "[   0,    1,    2, ..., 1197, 1198, 1199] i32 (1200,) cpu");
  CHECK(to_string(Tensor::from(values, {600, 2})) ==
        "[[   0,    1],\n [   2,    3],\n [   4,    5],\n ...,\n [1194, 1195],\n [1196, 1197],\n "
        "[1198, 1199]]"
        " i32 (600, 2) cpu");
  values.resize(1000);
  CHECK(to_string(Tensor::from(values, {1000})).find("...") == std::string::npos);
}

TEST_CASE("long rows are wrapped") {
  const Tensor zeros =
      Tensor::view(Tensor::from<int32_t>({123456}, {1}).storage(), 0, {30}, {0}, i32);
  std::istringstream text(to_string(zeros));
  std::string line;
  int lines = 0, numbers = 0;
  for (; std::getline(text, line); ++lines) {
    CHECK(line.size() <= 120);
    for (size_t at = line.find("123456"); at != std::string::npos; at = line.find("123456", at + 1))
      ++numbers;
    if (lines > 0) CHECK(line.starts_with(" 123456"));
  }
  CHECK(lines == 3);
  CHECK(numbers == 30);
}

TEST_CASE("tensors on another device show only what they are") {
  int32_t memory[2] = {1, 2};
  const auto storage = Storage::wrap(memory, sizeof memory, Device::cuda(1), nullptr);
  CHECK(to_string(Tensor::view(storage, 0, {2}, {1}, i32)) == "i32 (2,) cuda:1");
}

TEST_SUITE_END();
