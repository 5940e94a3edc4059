// Damaged files: each either loads consistently or throws tendril::Error. Run it with
// AddressSanitizer.
#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include <tendril/core/json.h>
#include <tendril/core/safetensors.h>

#include "damage.h"
#include "file_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

constexpr int kMutations = 3000;

std::vector<std::string> valid_files() {
  TemporaryFolder folder;
  const std::string path = folder.file("x");
  std::vector<std::string> files;
  const auto add = [&](const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
    save_safetensors(path, tensors, metadata);
    files.push_back(read_bytes(path));
  };
  add({{"a", Tensor::from<float>({1, -2}, {2})}}, {});
  add({{"w", Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3})},
       {"h", Tensor::from<bfloat16>({bfloat16(1), bfloat16(2)}, {2, 1})},
       {"i", Tensor::from<int64_t>({7}, {})},
       {"m", Tensor::from<bool>({true, false, true}, {3})},
       {"e", Tensor::empty({0, 4}, f64)}},
      {{"format", "pt"}, {"k\\\xC3\xA9", "\n"}});
  return files;
}

// Reads every tensor; with a `copy` (each costs a sync of the disk) what loads must also survive
// being saved and loaded again. True when it loaded.
bool loads_consistently(const std::string& path, const std::string& copy) {
  try {
    const auto file = SafetensorsFile::open(path);
    std::map<std::string, Tensor> tensors;
    for (const auto& name : file.names()) {
      tensors[name] = file.tensor(name);
      REQUIRE(static_cast<int64_t>(tensors[name].to_vector<double>().size()) ==
              tensors[name].numel());
    }
    REQUIRE(tensors.size() == file.names().size());
    if (copy.empty()) return true;
    save_safetensors(copy, tensors, file.metadata());
    const auto again = load_safetensors(copy);
    REQUIRE(again.size() == tensors.size());
    for (const auto& [name, tensor] : tensors) {
      const Tensor& other = again.at(name);
      REQUIRE(other.shape() == tensor.shape());
      REQUIRE(other.dtype() == tensor.dtype());
      const auto bytes = static_cast<size_t>(tensor.nbytes());
      REQUIRE((bytes == 0 || std::memcmp(other.raw_data(), tensor.raw_data(), bytes) == 0));
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

TEST_SUITE_BEGIN("safetensors_fuzz");

TEST_CASE("random damage to a safetensors file never does more than throw an Error") {
  const TemporaryFolder folder(memory_folder());
  const std::string path = folder.file("x"), copy = folder.file("y");
  const auto files = valid_files();
  for (const auto& file : files) {
    write_bytes(path, file);
    REQUIRE(loads_consistently(path, copy));
  }
  std::mt19937_64 random(20240607);
  int loaded = 0;
  for (int i = 0; i < kMutations; ++i) {
    write_bytes(path, damage(files[static_cast<size_t>(i) % files.size()], random));
    CAPTURE(i);
    bool result = false;
    REQUIRE_NOTHROW(result = loads_consistently(path, i % 16 == 0 ? copy : ""));
    loaded += result;
  }
  // Damage to the numbers alone still loads; damage to the structure must not.
  CHECK(loaded > 0);
  CHECK(loaded < kMutations / 2);
}

TEST_CASE("every truncation and every extension of a safetensors file is refused") {
  const TemporaryFolder folder(memory_folder());
  const std::string path = folder.file("x");
  for (const auto& file : valid_files()) {
    for (size_t length = 0; length < file.size(); ++length) {
      write_bytes(path, file.substr(0, length));
      CAPTURE(length);
      CHECK_THROWS_AS(load_safetensors(path), Error);
    }
    write_bytes(path, file + std::string(1, '\0'));
    CHECK_THROWS_AS(load_safetensors(path), Error);
  }
}

TEST_CASE("random text never does more than throw an Error in the JSON reader") {
  std::mt19937_64 random(7);
  const std::string seed =
      R"({"a": [1, -2.5e3, true, null], "b": {"c\u00e9\ud83d\ude00": "d"}, "e": [[], {}]})";
  int read = 0;
  for (int i = 0; i < kMutations; ++i) {
    const std::string text = damage(seed, random);
    try {
      const Json json = Json::parse(text, "fuzz");
      const std::string written = json.dump();
      REQUIRE(Json::parse(written, "fuzz").dump() == written);
      ++read;
    } catch (const Error&) {
      continue;
    }
  }
  CHECK(read > 0);
  CHECK(read < kMutations);
}

TEST_SUITE_END();
