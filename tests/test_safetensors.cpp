#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <numeric>

#include <tendril/core/safetensors.h>

#include "file_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

std::string length_bytes(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

std::string file_of(const std::string& header, const std::string& data) {
  return length_bytes(header.size()) + header + data;
}

// An entry of a header: "name":{"dtype":..,"shape":..,"data_offsets":..}
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return '"' + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
         offsets + '}';
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                size_t data_bytes = 8) {
  return file_of('{' + entry("a", dtype, shape, offsets) + '}', std::string(data_bytes, '\0'));
}

std::string bits_of(const Tensor& x) {
  REQUIRE(x.is_contiguous());
  return x.numel()
             ? std::string(static_cast<const char*>(x.raw_data()), static_cast<size_t>(x.nbytes()))
             : "";
}

// The file of the format's description: a = [1, -2] as F32.
const std::string kMinimal = std::string("\x38\0\0\0\0\0\0\0", 8) +
                             R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  )" +
                             std::string("\0\0\x80\x3f\0\0\0\xc0", 8);

struct Fixture {
  TemporaryFolder folder;
  std::string path = folder.file("x.safetensors");

  std::string open_error(const std::string& bytes) {
    write_bytes(path, bytes);
    return error_of([&] { SafetensorsFile::open(path); });
  }
  SafetensorsFile open(const std::string& bytes) {
    write_bytes(path, bytes);
    return SafetensorsFile::open(path);
  }
};

}  // namespace

TEST_SUITE_BEGIN("safetensors");

TEST_CASE_FIXTURE(Fixture, "the minimal file, byte for byte") {
  REQUIRE(kMinimal.size() == 72);
  const SafetensorsFile file = open(kMinimal);
  CHECK(file.names() == std::vector<std::string>{"a"});
  CHECK(file.contains("a"));
  CHECK_FALSE(file.contains("b"));
  CHECK(file.metadata().empty());
  CHECK(file.tensor("a").dtype() == f32);
  CHECK(file.tensor("a").shape() == Shape{2});
  CHECK(file.tensor("a").to_vector<float>() == std::vector<float>{1, -2});
  CHECK(contains_text(error_of([&] { file.tensor("b"); }), "has no tensor b"));
  save_safetensors(folder.file("y"), {{"a", Tensor::from<float>({1, -2}, {2})}}, {});
  CHECK(read_bytes(folder.file("y")) == kMinimal);
}

TEST_CASE_FIXTURE(Fixture, "invalid files are refused with the name of the broken rule") {
  const auto header = [](const std::string& text) { return file_of(text, std::string(8, '\0')); };
  const std::string good = entry("a", "F32", "[2]", "[0,8]");
  const struct {
    const char* rule;
    std::string bytes;
  } cases[] = {
      {"HeaderTooSmall", ""},
      {"HeaderTooSmall", kMinimal.substr(0, 7)},
      {"HeaderTooLarge", length_bytes(uint64_t{1} << 63) + kMinimal.substr(8)},
      {"HeaderTooLarge", length_bytes(100'000'001) + kMinimal.substr(8)},
      {"InvalidHeaderLength", length_bytes(65) + kMinimal.substr(8)},
      {"InvalidHeaderLength", length_bytes(0xFFFF) + kMinimal.substr(8)},
      {"InvalidHeaderDeserialization", length_bytes(57) + kMinimal.substr(8)},  // one too large
      {"InvalidHeaderStart", header("")},
      {"InvalidHeaderStart", header(" {" + good + "}")},
      {"InvalidHeaderStart", header("[" + good + "]")},
      {"InvalidHeader: ", header("{\"\xFF\":" + good.substr(4) + "}")},
      {"InvalidHeaderDeserialization", header("{" + good)},
      {"InvalidHeaderDeserialization", header("{" + good + "}x")},
      {"InvalidHeaderDeserialization", header("{" + good + "," + good + "}")},
      {"duplicate key", header("{" + good + "," + good + "}")},
      {"duplicate key",
       header(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})")},
      {"InvalidHeaderDeserialization", header(R"({"a":[]})")},
      {"InvalidHeaderDeserialization", header(R"({"a":{"dtype":"F32","shape":[2]}})")},
      {"InvalidHeaderDeserialization",
       header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})")},
      {"InvalidHeaderDeserialization",
       header(R"({"a":{"dtype":1,"shape":[2],"data_offsets":[0,8]}})")},
      {"InvalidHeaderDeserialization", header(R"({"__metadata__":{"a":1},)" + good + "}")},
      {"InvalidHeaderDeserialization", header(R"({"__metadata__":"pt",)" + good + "}")},
      {"nested too deeply", header(R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})")},
      {"unknown dtype \"F33\"", one("F33", "[2]", "[0,8]")},
      {"unknown dtype \"f32\"", one("f32", "[2]", "[0,8]")},
      {"non-negative integers", one("F32", "[-2]", "[0,8]")},
      {"non-negative integers", one("F32", "[2.0]", "[0,8]")},
      {"non-negative integers", one("F32", "[2e0]", "[0,8]")},
      {"non-negative integers", one("F32", "[\"2\"]", "[0,8]")},
      {"non-negative integers", one("F32", "[18446744073709551616]", "[0,8]")},
      {"non-negative integers", one("F32", "[2]", "[0,-8]")},
      {"InvalidHeaderDeserialization", one("F32", "2", "[0,8]")},
      {"InvalidHeaderDeserialization", one("F32", "[2]", "[0]")},
      {"InvalidHeaderDeserialization", one("F32", "[2]", "[0,4,8]")},
      {"TensorInvalidInfo", one("F32", "[2]", "[0,9]")},
      {"TensorInvalidInfo", one("F32", "[3]", "[0,8]")},
      {"TensorInvalidInfo", one("F32", "[]", "[0,8]")},
      {"TensorInvalidInfo", one("F32", "[0]", "[0,8]")},
      {"InvalidOffset", one("F32", "[2]", "[4,12]", 12)},
      {"InvalidOffset", one("F32", "[2]", "[8,0]")},
      {"InvalidOffset",
       file_of("{" + good + "," + entry("b", "F32", "[2]", "[4,12]") + "}", std::string(12, 0))},
      {"InvalidOffset",
       file_of("{" + good + "," + entry("b", "F32", "[2]", "[0,8]") + "}", std::string(8, 0))},
      {"InvalidOffset",
       file_of("{" + good + "," + entry("b", "F32", "[2]", "[12,20]") + "}", std::string(20, 0))},
      {"ValidationOverflow", one("F32", "[8589934592,8589934592]", "[0,8]")},
      {"ValidationOverflow", one("F64", "[288230376151711744]", "[0,8]")},
      {"MisalignedSlice", one("F4", "[3]", "[0,2]", 2)},
      {"MetadataIncompleteBuffer", kMinimal + '\0'},
      {"MetadataIncompleteBuffer", kMinimal.substr(0, 71)},
      {"MetadataIncompleteBuffer", file_of("{}", "x")},
  };
  for (const auto& broken : cases) {
    const std::string rule = broken.rule, error = open_error(broken.bytes);
    CAPTURE(rule);
    CAPTURE(error);
    CHECK(error.starts_with("[safetensors] " + path + ": "));
    CHECK(contains_text(error, rule));
  }
}

TEST_CASE_FIXTURE(Fixture, "odd but valid files are read") {
  CHECK(open(file_of("{}", "")).names().empty());
  CHECK(open(one("F32", "[]", "[0,4]", 4)).tensor("a").shape() == Shape{});
  CHECK(open(one("F32", "[0,9223372036854775807]", "[0,0]", 0)).tensor("a").numel() == 0);
  // A file may name its tensors in any order, and an empty tensor may stand where another begins.
  const auto file = open(
      file_of("{" + entry("c", "I32", "[1]", "[4,8]") + "," + entry("b", "U8", "[4]", "[0,4]") +
                  "," + entry("e", "F64", "[3,0]", "[4,4]") + R"(,"__metadata__":{"k":"v"}})",
              std::string("\1\2\3\4\5\0\0\0", 8)));
  CHECK(file.names() == std::vector<std::string>{"b", "e", "c"});
  CHECK(file.metadata() == std::map<std::string, std::string>{{"k", "v"}});
  CHECK(file.tensor("b").to_vector<int32_t>() == std::vector<int32_t>{1, 2, 3, 4});
  CHECK(file.tensor("c").item<int32_t>() == 5);
  CHECK(file.tensor("e").shape() == Shape{3, 0});
}

TEST_CASE_FIXTURE(Fixture, "dtypes without a Tensor type") {
  // Widened: their values fit exactly.
  CHECK(open(file_of("{" + entry("a", "I8", "[2]", "[0,2]") + "}", "\xFF\x7F"))
            .tensor("a")
            .to_vector<int32_t>() == std::vector<int32_t>{-1, 127});
  const auto i16 = open(
      file_of("{" + entry("a", "I16", "[2]", "[0,4]") + "}", std::string("\0\x80\xFF\x7F", 4)));
  CHECK(i16.tensor("a").dtype() == i32);
  CHECK(i16.tensor("a").to_vector<int32_t>() == std::vector<int32_t>{-32768, 32767});
  // Known, hence the file opens and its other tensors can be read, but not supported.
  for (const char* dtype : {"F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}) {
    const auto file = open(file_of(
        "{" + entry("a", dtype, "[4]", "[0,4]") + "," + entry("b", "U8", "[4]", "[4,8]") + "}",
        std::string(8, '\1')));
    CHECK(file.tensor("b").numel() == 4);
    CHECK(contains_text(error_of([&] { file.tensor("a"); }), "UnsupportedDtype"));
    CHECK(contains_text(error_of([&] { load_safetensors(path); }), dtype));
  }
  CHECK(open_error(one("C64", "[1]", "[0,8]")).empty());
  CHECK(open_error(one("U64", "[1]", "[0,8]")).empty());
  CHECK(open_error(one("U32", "[2]", "[0,8]")).empty());
  CHECK(open_error(one("U16", "[4]", "[0,8]")).empty());
  CHECK(open_error(one("F4", "[16]", "[0,8]")).empty());
  CHECK(open_error(one("F6_E2M3", "[4]", "[0,3]", 3)).empty());
  CHECK(open_error(one("F6_E3M2", "[4]", "[0,3]", 3)).empty());
  const auto nine = open(one("U8", "[1,1,1,1,1,1,1,1,8]", "[0,8]"));
  CHECK(contains_text(error_of([&] { nine.tensor("a"); }), "at most 8 axes"));
}

TEST_CASE_FIXTURE(Fixture, "a BOOL must be 0 or 1") {
  const auto file =
      open(file_of("{" + entry("a", "BOOL", "[3]", "[0,3]") + "}", std::string("\1\0\2", 3)));
  CHECK(contains_text(error_of([&] { file.tensor("a"); }), "InvalidBool"));
}

TEST_CASE_FIXTURE(Fixture, "every dtype comes back bit for bit, NaN payloads too") {
  std::map<std::string, Tensor> tensors;
  std::vector<uint16_t> patterns(65536);
  std::iota(patterns.begin(), patterns.end(), uint16_t{0});
  for (const DType dtype : {f64, f32, bf16, f16, i64, i32, u8}) {
    const int64_t count = 131072 / size_of(dtype);
    tensors[name(dtype)] = Tensor::empty({2, count / 2}, dtype);
    std::memcpy(tensors[name(dtype)].raw_data(), patterns.data(), 131072);
  }
  tensors["bool"] = Tensor::from<bool>({true, false, true}, {3});
  tensors["scalar"] = Tensor::from<double>({-0.0}, {});
  tensors["empty"] = Tensor::empty({3, 0, 2}, bf16);
  const uint32_t nans[] = {0x7FC00001u, 0x7F800001u, 0xFFFFFFFFu, 0x7F800000u};
  tensors["nan"] = Tensor::empty({4});
  std::memcpy(tensors["nan"].raw_data(), nans, sizeof nans);
  tensors["n\"\\\n\xC3\xA9"] = Tensor::from<int32_t>({1}, {1});
  save_safetensors(path, tensors, {{"format", "pt"}, {"note", "a \"quoted\"\tline"}});

  const auto loaded = load_safetensors(path);
  REQUIRE(loaded.size() == tensors.size());
  for (const auto& saved : tensors) {
    const std::string& name = saved.first;
    const Tensor& tensor = saved.second;
    CAPTURE(name);
    const Tensor& other = loaded.at(name);
    CHECK(other.dtype() == tensor.dtype());
    CHECK(other.shape() == tensor.shape());
    CHECK(bits_of(other) == bits_of(tensor));
  }
  CHECK(SafetensorsFile::open(path).metadata().at("note") == "a \"quoted\"\tline");
}

TEST_CASE_FIXTURE(Fixture, "the writer aligns: widest first, then by name, header padded to 8") {
  save_safetensors(path, {{"b", Tensor::from<uint8_t>({1, 2, 3}, {3})},
                          {"z", Tensor::from<double>({1}, {})},
                          {"a", Tensor::from<float>({1}, {1})},
                          {"c", Tensor::from<float>({2}, {1})}});
  const std::string bytes = read_bytes(path);
  uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  const std::string header = bytes.substr(8, length);
  CHECK(
      header.substr(0, header.find_last_not_of(' ') + 1) ==
      R"({"__metadata__":{"format":"pt"},"z":{"dtype":"F64","shape":[],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"c":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},)"
      R"("b":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})");
  CHECK(bytes.size() == 8 + length + 19);
}

TEST_CASE_FIXTURE(Fixture, "strided tensors are written in logical order") {
  const Tensor x = Tensor::from<int32_t>({0, 1, 2, 3, 4, 5}, {2, 3});
  const Tensor h = Tensor::from<bfloat16>({bfloat16(1), bfloat16(2), bfloat16(3)}, {3});
  std::vector<double> many(200'000);
  std::iota(many.begin(), many.end(), 0.0);
  const Tensor big = Tensor::from(many, {200'000});
  save_safetensors(
      path,
      {{"transposed", Tensor::view(x.storage(), 0, {3, 2}, {1, 3}, i32)},
       {"repeated", Tensor::view(x.storage(), 4, {2, 2}, {0, 1}, i32)},
       {"backwards", Tensor::view(h.storage(), 2, {3}, {-1}, bf16)},
       {"bytes", Tensor::view(Tensor::from<uint8_t>({1, 2, 3}, {3}).storage(), 0, {2}, {2}, u8)},
       {"empty", Tensor::view(x.storage(), 0, {0, 3}, {7, 2}, i32)},
       {"big", Tensor::view(big.storage(), 199'999, {200'000}, {-1}, f64)}});
  const auto loaded = load_safetensors(path);
  CHECK(loaded.at("transposed").to_vector<int32_t>() == std::vector<int32_t>{0, 3, 1, 4, 2, 5});
  CHECK(loaded.at("repeated").to_vector<int32_t>() == std::vector<int32_t>{4, 5, 4, 5});
  CHECK(loaded.at("backwards").to_vector<float>() == std::vector<float>{3, 2, 1});
  CHECK(loaded.at("bytes").to_vector<int32_t>() == std::vector<int32_t>{1, 3});
  CHECK(loaded.at("empty").shape() == Shape{0, 3});
  std::reverse(many.begin(), many.end());
  CHECK(loaded.at("big").to_vector<double>() == many);
}

TEST_CASE_FIXTURE(Fixture, "tensors view the file where it is aligned and are copies elsewhere") {
  save_safetensors(path, {{"a", Tensor::from<float>({1, 2}, {2})}});
  Tensor a;
  {
    const SafetensorsFile file = SafetensorsFile::open(path);
    a = file.tensor("a");
    CHECK(a.raw_data() == file.tensor("a").raw_data());
  }
  CHECK(a.to_vector<float>() == std::vector<float>{1, 2});  // the mapping outlives the file object
  const std::string before = read_bytes(path);
  a.data<float>()[0] = 7;  // private: the file does not change
  CHECK(a.to_vector<float>() == std::vector<float>{7, 2});
  CHECK(read_bytes(path) == before);

  for (size_t padding = 0; padding < 8;
       ++padding) {  // files of other writers start their data anywhere
    const double values[] = {1.5, -2.5};
    const auto file =
        open(file_of("{" + entry("a", "F64", "[2]", "[0,16]") + "}" + std::string(padding, ' '),
                     std::string(reinterpret_cast<const char*>(values), 16)));
    CHECK(reinterpret_cast<uintptr_t>(file.tensor("a").raw_data()) % 8 == 0);
    CHECK(file.tensor("a").to_vector<double>() == std::vector<double>{1.5, -2.5});
  }
}

TEST_CASE_FIXTURE(Fixture, "overwriting replaces the file at once and leaves nothing behind") {
  save_safetensors(path, {{"a", Tensor::from<float>({1, 2}, {2})}});
  const Tensor old = SafetensorsFile::open(path).tensor("a");
  save_safetensors(
      path, {{"a", old}, {"b", Tensor::from<float>({3}, {1})}});  // reads from the file it replaces
  CHECK(old.to_vector<float>() == std::vector<float>{1, 2});
  const auto loaded = load_safetensors(path);
  CHECK(loaded.at("a").to_vector<float>() == std::vector<float>{1, 2});
  CHECK(loaded.at("b").item<float>() == 3);
  CHECK(folder.file_count() == 1);

  const std::string before = read_bytes(path);
  CHECK_FALSE(error_of([&] { save_safetensors(path, {{"a", Tensor()}}); }).empty());
  CHECK(read_bytes(path) == before);
  CHECK(folder.file_count() == 1);
}

TEST_CASE_FIXTURE(Fixture, "what cannot be written is an error") {
  const Tensor x = Tensor::from<float>({1}, {1});
  CHECK(contains_text(error_of([&] {
                        save_safetensors(folder.file("none/x"), {{"a", x}});
                      }),
                      "cannot create"));
  CHECK(contains_text(error_of([&] {
                        save_safetensors(folder.path().string(), {{"a", x}});
                      }),
                      "cannot rename"));
  CHECK(contains_text(error_of([&] { save_safetensors("/proc/x", {{"a", x}}); }), "cannot create"));
  CHECK(contains_text(error_of([&] {
                        save_safetensors(path, {{"__metadata__", x}});
                      }),
                      "__metadata__"));
  CHECK(contains_text(error_of([&] { save_safetensors(path, {{"\xFF", x}}); }), "UTF-8"));
  CHECK(contains_text(error_of([&] {
                        save_safetensors(path, {{"a", x}}, {{"k", "\xFF"}});
                      }),
                      "UTF-8"));
  CHECK(contains_text(error_of([&] {
                        save_safetensors(path, {{"a", Tensor()}});
                      }),
                      "a is undefined"));
  float memory = 0;
  const Tensor far =
      Tensor::view(Storage::wrap(&memory, 4, Device::cuda(99), nullptr), 0, {1}, {1}, f32);
  CHECK(contains_text(error_of([&] { save_safetensors(path, {{"a", far}}); }), "cuda:99"));
  CHECK(folder.file_count() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a write that stops half way is an error and keeps the old file") {
  save_safetensors(path, {{"a", Tensor::from<float>({1}, {1})}});
  const std::string before = read_bytes(path);
  rlimit limit;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // then write() fails with EFBIG
  const rlimit small{4096, limit.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string error = error_of([&] {
    save_safetensors(path, {{"a", Tensor::from(std::vector<float>(5000), {5000})}});
  });
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);
  CHECK(contains_text(error, "cannot write"));
  CHECK(read_bytes(path) == before);
  CHECK(folder.file_count() == 1);
}

TEST_CASE_FIXTURE(Fixture, "what cannot be read is an error") {
  CHECK(
      contains_text(error_of([&] { SafetensorsFile::open(folder.file("none")); }), "cannot open"));
  CHECK(contains_text(error_of([&] { SafetensorsFile::open(folder.path().string()); }),
                      "not a regular file"));
  REQUIRE(::mkfifo(folder.file("pipe").c_str(), 0600) == 0);
  CHECK(contains_text(error_of([&] { SafetensorsFile::open(folder.file("pipe")); }),
                      "not a regular file"));
}

TEST_SUITE_END();
