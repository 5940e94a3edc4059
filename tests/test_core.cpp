// Shape, dtypes, tensors as handles and views. Halves, memory and threads: test_half, test_memory.
#include <doctest/doctest.h>

#include <clocale>
#include <cmath>
#include <limits>
#include <locale>
#include <numeric>

#include <tendril/core/strided.h>
#include <tendril/core/tensor.h>

#include "file_tools.h"

using namespace tendril;
using namespace tendril::testing;

TEST_SUITE_BEGIN("core");

TEST_CASE("shape holds up to eight sizes") {
  Shape shape{2, 3};
  CHECK(shape.rank() == 2);
  CHECK(shape.back() == 3);
  CHECK(shape.numel() == 6);
  shape.push_back(5);
  shape.insert(0, 7);
  CHECK(shape == Shape{7, 2, 3, 5});
  shape.erase(1);
  CHECK(shape == Shape{7, 3, 5});
  CHECK(shape != Shape{7, 3});
  CHECK(Shape::filled(3, 4) == Shape{4, 4, 4});
  CHECK(Shape(std::vector<int64_t>{1, 2}) == Shape{1, 2});
  CHECK(detail::concat(Shape{}, Shape{4}, Shape{2, 3}) == "()(4,)(2, 3)");
  CHECK(contains_text(error_of([] { Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}; }), "at most 8 axes"));
  CHECK(contains_text(error_of([] { Shape::filled(8, 1).push_back(1); }), "at most 8 axes"));
  CHECK(contains_text(error_of([] { Shape::filled(9, 1); }), "rank must be"));
  CHECK(contains_text(error_of([] { Shape::filled(-1, 1); }), "rank must be"));
  CHECK(contains_text(error_of([] { Shape{1}.erase(1); }), "no position 1"));
  CHECK(contains_text(error_of([] { Shape{1}.insert(2, 1); }), "no position 2"));
}

TEST_CASE("numel checks for negative sizes and overflow") {
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{3, 0, 2}.numel() == 0);
  const int64_t huge = int64_t{1} << 40;
  CHECK(Shape{huge, 0, huge}.numel() == 0);
  CHECK(Shape{int64_t{1} << 62, 1}.numel() == int64_t{1} << 62);
  CHECK(contains_text(error_of([&] { Shape{huge, huge}.numel(); }), "does not fit"));
  CHECK(contains_text(error_of([] { Shape{2, -1}.numel(); }), "negative"));
  CHECK(contains_text(error_of([] { Shape{0, -1}.numel(); }), "negative"));
}

TEST_CASE("row-major strides") {
  CHECK(contiguous_strides({2, 3, 4}) == Strides{12, 4, 1});
  CHECK(contiguous_strides({}) == Strides{});
  CHECK(contiguous_strides({5}) == Strides{1});
  CHECK(contiguous_strides({2, 0, 4}) == Strides{4, 4, 1});
  CHECK(contiguous_strides({0, int64_t{1} << 40, int64_t{1} << 40}).rank() == 3);  // no overflow
}

TEST_CASE("broadcasting") {
  CHECK(broadcast_shapes("op", {2, 3}, {3}) == Shape{2, 3});
  CHECK(broadcast_shapes("op", {3}, {2, 1}) == Shape{2, 3});
  CHECK(broadcast_shapes("op", {}, {4, 1}) == Shape{4, 1});
  CHECK(broadcast_shapes("op", {5, 1, 4}, {3, 1}) == Shape{5, 3, 4});
  CHECK(broadcast_shapes("op", {0}, {1}) == Shape{0});
  CHECK(broadcast_shapes("op", {2, 1}, {2, 0}) == Shape{2, 0});
  const std::string error = error_of([] { broadcast_shapes("add", {2, 3}, {2}); });
  CHECK(contains_text(error, "[add] shapes do not broadcast; got (2, 3) and (2,)"));
  CHECK(contains_text(error_of([] { broadcast_shapes("add", {0}, {2}); }), "do not broadcast"));
  CHECK(broadcast_strides({3, 1}, {1, 1}, {2, 3, 4}) == Strides{0, 1, 0});
}

TEST_CASE("axes count from the end when negative") {
  CHECK(normalize_axis("op", 0, 3) == 0);
  CHECK(normalize_axis("op", -1, 3) == 2);
  CHECK(normalize_axis("op", -3, 3) == 0);
  for (const int64_t axis : {int64_t{3}, int64_t{-4}, std::numeric_limits<int64_t>::min(),
                             std::numeric_limits<int64_t>::max()})
    CHECK(contains_text(error_of([&] { normalize_axis("sum", axis, 3); }), "[sum] axis"));
  CHECK(contains_text(error_of([] { normalize_axis("sum", 0, 0); }), "out of range"));
  CHECK(normalize_axes("op", {}, 3) == Shape{0, 1, 2});
  CHECK(normalize_axes("op", {-1, 0}, 3) == Shape{0, 2});
  CHECK(contains_text(error_of([] { normalize_axes("sum", {0, -3}, 3); }), "named twice"));
}

TEST_CASE("walking strided memory in row-major order") {
  const auto walk = [](const Shape& shape, const Strides& strides) {
    std::vector<int64_t> offsets;
    for_each_offset(shape, strides, [&](int64_t offset) { offsets.push_back(offset); });
    for (size_t i = 0; i < offsets.size(); ++i)
      CHECK(offset_of(static_cast<int64_t>(i), shape, strides) == offsets[i]);
    return offsets;
  };
  using Offsets = std::vector<int64_t>;
  CHECK(walk({}, {}) == Offsets{0});
  CHECK(walk({2, 3}, {3, 1}) == Offsets{0, 1, 2, 3, 4, 5});
  CHECK(walk({3, 2}, {1, 3}) == Offsets{0, 3, 1, 4, 2, 5});
  CHECK(walk({2, 2, 2}, {0, -1, 5}) == Offsets{0, 5, -1, 4, 0, 5, -1, 4});
  CHECK(walk({2, 0, 3}, {1, 1, 1}).empty());
}

TEST_CASE("dtype names, sizes and groups") {
  const DType all[] = {f64, f32, bf16, f16, i64, i32, u8, bool_};
  const char* names[] = {"f64", "f32", "bf16", "f16", "i64", "i32", "u8", "bool"};
  const int64_t sizes[] = {8, 4, 2, 2, 8, 4, 1, 1};
  for (int i = 0; i < kDTypeCount; ++i) {
    CHECK(std::string(name(all[i])) == names[i]);
    CHECK(size_of(all[i]) == sizes[i]);
    CHECK(is_floating(all[i]) == (i < 4));
    CHECK(visit_dtype(all[i], []<class T>(TypeTag<T>) { return dtype_of<T>(); }) == all[i]);
  }
  CHECK(accumulate_dtype(bf16) == f32);
  CHECK(accumulate_dtype(f64) == f64);
  CHECK(accumulate_dtype(i32) == i32);
  const auto nothing = []<class T>(TypeTag<T>) {};
  CHECK(contains_text(error_of([&] { visit_floating("exp", i32, nothing); }),
                      "[exp] needs a floating-point tensor; got i32"));
  CHECK(contains_text(error_of([&] { visit_index("gather", f32, nothing); }),
                      "[gather] needs i64 or i32 indices; got f32"));
  CHECK(contains_text(error_of([&] { visit_dtype(static_cast<DType>(99), nothing); }),
                      "invalid dtype"));
  CHECK(std::string(name(static_cast<DType>(99))) == "invalid");
}

TEST_CASE("the promotion table") {
  const DType order[] = {f64, f32, bf16, f16, i64, i32, u8, bool_};
  // Row and column in the order above.
  const DType expected[8][8] = {
      {f64, f64, f64, f64, f64, f64, f64, f64},       // f64
      {f64, f32, f32, f32, f32, f32, f32, f32},       // f32
      {f64, f32, bf16, f32, bf16, bf16, bf16, bf16},  // bf16
      {f64, f32, f32, f16, f16, f16, f16, f16},       // f16
      {f64, f32, bf16, f16, i64, i64, i64, i64},      // i64
      {f64, f32, bf16, f16, i64, i32, i32, i32},      // i32
      {f64, f32, bf16, f16, i64, i32, u8, u8},        // u8
      {f64, f32, bf16, f16, i64, i32, u8, bool_},     // bool
  };
  for (int a = 0; a < 8; ++a)
    for (int b = 0; b < 8; ++b) {
      CAPTURE(name(order[a]));
      CAPTURE(name(order[b]));
      CHECK(promote(order[a], order[b]) == expected[a][b]);
    }
}

TEST_CASE("tensors from values") {
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(x.dtype() == f32);
  CHECK(x.shape() == Shape{2, 3});
  CHECK(x.strides() == Strides{3, 1});
  CHECK(x.rank() == 2);
  CHECK(x.numel() == 6);
  CHECK(x.nbytes() == 24);
  CHECK(x.size(-1) == 3);
  CHECK(x.is_contiguous());
  CHECK(x.device() == Device::cpu());
  CHECK(x.span<float>()[4] == 5);
  CHECK(Tensor::from(std::vector<int32_t>{1, 2}, {2}).dtype() == i32);
  CHECK(Tensor::from(std::vector<bool>{true, false}, {2}).to_vector<bool>() ==
        std::vector<bool>{true, false});
  CHECK(Tensor::from<double>({}, {0}).numel() == 0);
  CHECK(contains_text(error_of([] {
                        Tensor::from<float>({1, 2}, {3});
                      }),
                      "[from] got 2 values for shape (3,), which needs 3"));
  CHECK(contains_text(error_of([&] { x.size(2); }), "[size] axis 2"));
  CHECK(contains_text(error_of([&] { x.data<double>(); }), "[data] the tensor holds f32, not f64"));
  CHECK(contains_text(error_of([] { Tensor::empty({-1}); }), "negative"));
  CHECK(contains_text(error_of([] { Tensor::empty({int64_t{1} << 62}, f64); }), "does not fit"));
}

TEST_CASE("tensors over foreign memory do not copy and keep the owner") {
  auto memory = std::make_shared<std::vector<int32_t>>(std::vector<int32_t>{1, 2, 3, 4});
  {
    const Tensor x = Tensor::external(memory->data(), {2, 2}, memory);
    CHECK(memory.use_count() == 2);
    (*memory)[3] = 9;
    CHECK(x.to_vector<int32_t>() == std::vector<int32_t>{1, 2, 3, 9});
    const Tensor part = Tensor::view(x.storage(), 2, {2}, {1}, i32);
    CHECK(part.data<int32_t>() == memory->data() + 2);
  }
  CHECK(memory.use_count() == 1);
  std::vector<float> values{1, 2, 3};
  const float* data = values.data();
  const Tensor adopted = Tensor::adopt(std::move(values), {3});
  CHECK(adopted.data<float>() == data);
  CHECK(contains_text(error_of([] { Tensor::adopt(std::vector<float>{1}, {2}); }),
                      "[adopt] got 1 values"));
  alignas(8) char bytes[16] = {};
  CHECK(contains_text(error_of([&] { Tensor::external(bytes + 1, {1}, f32); }), "aligned"));
  CHECK(contains_text(error_of([] { Tensor::external(nullptr, {1}, f32); }), "must not be null"));
  CHECK(Tensor::external(nullptr, {0}, f32).numel() == 0);
}

TEST_CASE("views must stay inside their storage") {
  const Tensor x = Tensor::from<int32_t>({0, 1, 2, 3, 4, 5}, {6});
  const auto view = [&](int64_t offset, const Shape& shape, const Strides& strides,
                        DType dtype = i32) {
    return Tensor::view(x.storage(), offset, shape, strides, dtype);
  };
  using Values = std::vector<int32_t>;
  CHECK(view(1, {2, 2}, {3, 1}).to_vector<int32_t>() == Values{1, 2, 4, 5});
  CHECK_FALSE(view(1, {2, 2}, {3, 1}).is_contiguous());
  CHECK(view(5, {3}, {-2}).to_vector<int32_t>() == Values{5, 3, 1});
  CHECK(view(2, {3}, {0}).to_vector<int32_t>() == Values{2, 2, 2});
  CHECK(view(2, {1, 3}, {100, 1}).is_contiguous());  // a single element's stride is never used
  CHECK(view(2, {2, 0}, {100, 1}).numel() == 0);
  CHECK(view(5, {}, {}).item<int32_t>() == 5);
  const int64_t huge = int64_t{1} << 62;
  CHECK(contains_text(error_of([&] { view(0, {7}, {1}); }), "leaves the storage"));
  CHECK(contains_text(error_of([&] { view(1, {6}, {1}); }), "leaves the storage"));
  CHECK(contains_text(error_of([&] { view(-1, {1}, {1}); }), "leaves the storage"));
  CHECK(contains_text(error_of([&] { view(1, {3}, {-1}); }), "leaves the storage"));
  CHECK(contains_text(error_of([&] { view(0, {4}, {1}, f64); }), "leaves the storage"));
  CHECK(contains_text(error_of([&] { view(0, {5}, {huge}); }),
                      "leaves the storage"));  // 4 * 2^62 wraps to 0
  CHECK(contains_text(error_of([&] { view(0, {3, 3}, {huge, huge}); }), "leaves the storage"));
  CHECK(contains_text(error_of([&] { view(std::numeric_limits<int64_t>::max(), {2}, {1}); }),
                      "leaves the storage"));
  CHECK(contains_text(error_of([&] { view(0, {2, 2}, {1}); }), "differ in rank"));
  CHECK(contains_text(error_of([] { Tensor::view(nullptr, 0, {}, {}, f32); }), "must not be null"));
  alignas(8) char memory[24] = {};
  const auto odd = Storage::wrap(memory + 1, 16, Device::cpu(), nullptr);
  CHECK(contains_text(error_of([&] { Tensor::view(odd, 0, {1}, {1}, f64); }), "not aligned"));
  CHECK(Tensor::view(odd, 0, {1}, {1}, u8).item<int32_t>() == 0);
}

TEST_CASE("reading numbers converts them") {
  const Tensor x = Tensor::from<double>({-1.5, 0, 2.75}, {3});
  CHECK(x.to_vector<double>() == std::vector<double>{-1.5, 0, 2.75});
  CHECK(x.to_vector<float>() == std::vector<float>{-1.5f, 0, 2.75f});
  CHECK(x.to_vector<int64_t>() == std::vector<int64_t>{-1, 0, 2});  // towards zero
  CHECK(x.to_vector<bool>() == std::vector<bool>{true, false, true});
  CHECK(Tensor::from<uint8_t>({200}, {}).item<int32_t>() == 200);
  CHECK(Tensor::from<bfloat16>({bfloat16(1.5f)}, {1, 1}).item<double>() == 1.5);
  CHECK(Tensor::from<float16>({float16(0.5f)}, {}).item<float>() == 0.5f);
  CHECK(Tensor::from<bool>({true}, {}).item<double>() == 1.0);
  CHECK(Tensor::from<int64_t>({int64_t{1} << 60 | 1}, {}).item<int64_t>() ==
        (int64_t{1} << 60 | 1));
  // The same rules as to(): NaN gives 0, numbers beyond an integer type give its limits.
  const Tensor wild = Tensor::from<double>({std::nan(""), 1e300, -1e300}, {3});
  CHECK(wild.to_vector<int32_t>() == std::vector<int32_t>{0, INT32_MAX, INT32_MIN});
  CHECK(wild.to_vector<uint8_t>() == std::vector<uint8_t>{0, 255, 0});
  CHECK(static_cast<float>(x.to_vector<bfloat16>()[2]) == 2.75f);
  CHECK(static_cast<float>(Tensor::from<int64_t>({3}, {}).item<float16>()) == 3.0f);
  CHECK(contains_text(error_of([&] { x.item<float>(); }),
                      "[item] needs a tensor with one element; got shape (3,)"));
  CHECK(contains_text(error_of([] { Tensor::empty({0}).item<float>(); }), "one element"));
  const Tensor columns = Tensor::view(x.storage(), 0, {2}, {2}, f64);
  CHECK(
      contains_text(error_of([&] { columns.span<double>(); }), "[span] needs a contiguous tensor"));
  float memory = 0;
  const Tensor far =
      Tensor::view(Storage::wrap(&memory, 4, Device::cuda(2), nullptr), 0, {1}, {1}, f32);
  CHECK(contains_text(error_of([&] { far.to_vector<float>(); }), "cuda:2"));
}

TEST_CASE("an undefined tensor is an error in every use") {
  const Tensor x;
  CHECK_FALSE(x.defined());
  CHECK(contains_text(error_of([&] { x.shape(); }), "undefined tensor"));
  CHECK(contains_text(error_of([&] { x.dtype(); }), "undefined tensor"));
  CHECK(contains_text(error_of([&] { x.device(); }), "undefined tensor"));
  CHECK(contains_text(error_of([&] { x.numel(); }), "undefined tensor"));
  CHECK(contains_text(error_of([&] { x.raw_data(); }), "undefined tensor"));
  CHECK(contains_text(error_of([&] { x.item<float>(); }), "undefined tensor"));
  CHECK(contains_text(error_of([&] { x.to_vector<float>(); }), "undefined tensor"));
  CHECK(contains_text(error_of([&] { x.detach(); }), "undefined tensor"));
  CHECK(
      contains_text(error_of([&] { Tensor(x).set_data(Tensor::empty({1})); }), "undefined tensor"));
  CHECK(contains_text(error_of([&] { Tensor::empty({1}).set_data(x); }), "undefined tensor"));
}

TEST_CASE("copies share, set_data reaches all copies") {
  Tensor x = Tensor::from<float>({1, 2}, {2});
  const Tensor same = x, view = Tensor::view(x.storage(), 0, {2}, {1}, f32);
  CHECK(same.is_same(x));
  CHECK_FALSE(view.is_same(x));
  CHECK_FALSE(x.detach().is_same(x));
  CHECK(x.detach().storage() == x.storage());
  x.set_data(Tensor::from<double>({5, 6, 7}, {3, 1}));
  CHECK(same.dtype() == f64);
  CHECK(same.shape() == Shape{3, 1});
  CHECK(same.to_vector<double>() == std::vector<double>{5, 6, 7});
  CHECK(view.to_vector<float>() == std::vector<float>{1, 2});  // only handles follow, not views
  x.set_data(x);
  CHECK(same.to_vector<double>() == std::vector<double>{5, 6, 7});
}

TEST_CASE("is_unique and versions") {
  Tensor x = Tensor::empty({2});
  CHECK(x.is_unique());
  {
    const Tensor copy = x;
    CHECK_FALSE(x.is_unique());
  }
  CHECK(x.is_unique());
  const Tensor view = Tensor::view(x.storage(), 0, {1}, {1}, f32);
  CHECK_FALSE(x.is_unique());
  const auto version = x.storage()->version();
  view.bump_version();  // views share the counter, so that the tape notices changes through them
  CHECK(x.storage()->version() == version + 1);
}

TEST_CASE("devices") {
  CHECK(Device::cpu() == Device{});
  CHECK(Device::cuda(1).is_cuda());
  CHECK(Device::cuda(1) != Device::cuda(0));
  CHECK(detail::concat(Device::cpu(), " ", Device::cuda(1)) == "cpu cuda:1");
  CHECK(contains_text(error_of([] { Tensor::empty({1}, f32, Device::cuda(99)); }), "cuda:99"));
  CHECK(contains_text(error_of([] { memory_stats(Device::cuda(99)); }), "cuda:99"));
}

namespace {
struct Grouping : std::numpunct<char> {
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};
}  // namespace

TEST_CASE("messages do not depend on the embedder's locale") {
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Grouping));
  const std::string text = detail::concat(Shape{12345}),
                    message = error_of([] { fail("got ", 1234567, " and ", 1.5); });
  std::locale::global(before);
  CHECK(text == "(12345,)");
  CHECK(message == "got 1234567 and 1.5");
}

TEST_SUITE_END();
