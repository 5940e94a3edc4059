// A safetensors file written piece by piece is the one that is written in one go.
#include <doctest/doctest.h>

#include <tendril/autograd/functions.h>
#include <tendril/core/crc32c.h>
#include <tendril/core/safetensors.h>
#include <tendril/core/safetensors_writer.h>

#include "file_tools.h"

using namespace tendril;
using namespace tendril::testing;
using Entry = SafetensorsWriter::Entry;

TEST_SUITE_BEGIN("safetensors_writer");

TEST_CASE("pieces of tensors, in the order of entries()") {
  const TemporaryFolder folder;
  const Tensor w = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {3, 2});
  const Tensor d = Tensor::from<double>({7, 8}, {2}), none = Tensor::empty({0, 5}, f64);
  save_safetensors(folder.file("direct"), {{"w", w}, {"d", d}, {"a", none}, {"z", none}});

  SafetensorsWriter writer(
      folder.file("pieces"),
      {{"w", f32, {3, 2}}, {"z", f64, {0, 5}}, {"d", f64, {2}}, {"a", f64, {0, 5}}});
  std::vector<std::string> order;
  for (const Entry& entry : writer.entries()) order.push_back(entry.name);
  CHECK(order == std::vector<std::string>{"a", "d", "z", "w"});
  writer.write(none);
  writer.write(d);
  writer.write(slice(w, 0, 0, 2));
  writer.write(Tensor::from<float>({5}, {1}));
  CHECK_FALSE(std::filesystem::exists(folder.file("pieces")));
  CHECK(contains_text(error_of([&] { writer.commit(); }), "tensor w is not complete; 5 of 6"));
  writer.write(Tensor::from<float>({6}, {}));
  writer.commit();
  const std::string bytes = read_bytes(folder.file("pieces"));
  CHECK(bytes == read_bytes(folder.file("direct")));
  CHECK(writer.bytes() == static_cast<int64_t>(bytes.size()));
  CHECK(writer.crc32c() == crc32c(bytes.data(), bytes.size()));
}

TEST_CASE("what does not fit is an error, and without commit() there is no file") {
  const TemporaryFolder folder;
  const std::string path = folder.file("x");
  {
    SafetensorsWriter writer(path, {{"w", f32, {3}}});
    const auto error = [&](const Tensor& elements) {
      return error_of([&] { writer.write(elements); });
    };
    CHECK(contains_text(error(zeros({4})), "tensor w lacks 3 elements of f32; got 4 of f32"));
    CHECK(contains_text(error(zeros({2}, f64)), "got 2 of f64"));
    writer.write(zeros({2}));
    CHECK(contains_text(error(zeros({2})), "tensor w lacks 1 elements"));
    writer.write(zeros({1}));
    CHECK(contains_text(error(zeros({1})), "all tensors are complete"));
  }
  const auto constructor_error = [&](std::vector<Entry> entries) {
    return error_of([&] { SafetensorsWriter(path, std::move(entries)); });
  };
  CHECK(contains_text(constructor_error({{"w", f32, {}}, {"w", f64, {}}}), "two tensors w"));
  CHECK(contains_text(constructor_error({{"__metadata__", f32, {}}}), "cannot be a tensor's name"));
  CHECK(contains_text(constructor_error({{"\xFF", f32, {}}}), "UTF-8"));
  CHECK(contains_text(constructor_error({{"w", f32, {-1}}}), "must not be negative"));
  CHECK(folder.file_count() == 0);
}

TEST_SUITE_END();
