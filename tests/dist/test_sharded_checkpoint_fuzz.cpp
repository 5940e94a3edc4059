// Damaged sharded checkpoints: each reads consistently or throws tendril::Error. Run it with
// AddressSanitizer.
#include <doctest/doctest.h>

#include <cstdio>
#include <random>

#include <tendril/core/crc32c.h>
#include <tendril/dist/checkpoint/manifest.h>
#include <tendril/dist/checkpoint/shard_name.h>

#include "../damage.h"
#include "sharded_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace tendril::testing;
namespace fs = std::filesystem;

namespace {

struct Fixture {
  TemporaryFolder folder{memory_folder()};
  fs::path checkpoint = folder.path() / "checkpoint";
  std::string manifest_path = (checkpoint / "manifest.json").string();
  std::string shard_path = (checkpoint / "shard-00001-of-00003.safetensors").string();
  std::string manifest;
  Fixture() {
    save_cut(checkpoint, sample_tensors(), 3, false, {{"step", "7"}, {"\xC3\xA9", "\n"}});
    manifest = read_bytes(manifest_path);
  }
};

// The manifest with the checksum that its text calls for: the checks behind it are reached.
std::string sealed(const std::string& manifest) {
  const std::string member = "\"crc32c\": \"";
  const size_t at = manifest.rfind(member);
  if (at == std::string::npos) return manifest;
  char hex[9];
  std::snprintf(hex, sizeof hex, "%08x", crc32c(manifest.data(), at));
  return manifest.substr(0, at) + member + hex + "\"\n}\n";
}

// Opens and reads everything, whole and in halves. True when nothing was refused.
bool reads_consistently(const fs::path& folder, bool verify = false) {
  try {
    const auto opened = ShardedCheckpoint::open(folder, verify);
    for (const auto& [name, stored] : opened.tensors()) {
      const Tensor whole = opened.read(name);
      REQUIRE(whole.shape() == stored.shape);
      REQUIRE(whole.dtype() == stored.dtype);
      if (whole.rank() == 0) continue;
      const int64_t middle = whole.size(0) / 2;
      REQUIRE(same_bits(opened.read(name, middle), rows_of(whole, middle, whole.size(0))));
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE_MESSAGE(at != std::string::npos, from);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_SUITE_BEGIN("sharded_checkpoint_fuzz");

TEST_CASE_FIXTURE(Fixture, "every damage to a manifest is found") {
  REQUIRE(reads_consistently(checkpoint));
  std::mt19937_64 random(20261);
  int unchanged = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string text = damage(manifest, random);
    write_bytes(manifest_path, text);
    CAPTURE(i);
    bool read = false;
    REQUIRE_NOTHROW(read = reads_consistently(checkpoint));
    REQUIRE(read == (text == manifest));
    unchanged += read;
  }
  CHECK(unchanged < 300);
}

TEST_CASE_FIXTURE(Fixture, "a manifest with a right checksum is checked all the same") {
  std::mt19937_64 random(20262);
  int read = 0;
  constexpr int kRounds = 4000;
  for (int i = 0; i < kRounds; ++i) {
    write_bytes(manifest_path, sealed(damage(manifest, random)));
    CAPTURE(i);
    bool result = false;
    REQUIRE_NOTHROW(result = reads_consistently(checkpoint));
    read += result;
  }
  // Another metadata text still reads; another structure must not.
  CHECK(read > 0);
  CHECK(read < kRounds / 2);
}

TEST_CASE_FIXTURE(Fixture, "every truncation of a manifest is found") {
  for (size_t length = 0; length < manifest.size(); ++length) {
    write_bytes(manifest_path, manifest.substr(0, length));
    CAPTURE(length);
    REQUIRE_FALSE(reads_consistently(checkpoint));
  }
}

TEST_CASE_FIXTURE(Fixture, "manifests that lie are refused with a reason") {
  const auto error = [&](const std::string& from, const std::string& to) {
    const std::string text = sealed(replaced(manifest, from, to));
    return error_of([&] { shards::Manifest::parse(text, "m.json"); });
  };
  const auto refuses = [&](const std::string& from, const std::string& to,
                           const std::string& reason) {
    const std::string got = error(from, to);
    CHECK_MESSAGE(contains_text(got, reason), from, " -> ", to, ": ", got);
    CHECK(got.starts_with("[sharded_checkpoint] m.json: "));
  };
  const std::string shard = "\"shard-00000-of-00003.safetensors\"";
  CHECK(error("\"7\"", "\"8\"") == "");  // the seal of this test works
  refuses("tendril sharded checkpoint", "tendril checkpoint", "not the manifest of a sharded");
  refuses("\"version\": 1", "\"version\": 2", "format version 2; this Tendril reads version 1");
  refuses("\"version\": 1", "\"version\": \"1\"", "format version \"1\"");
  refuses("\"7\"", "7", "not a string");
  for (const char* name :
       {"\"../shard-00000-of-00003.safetensors\"", "\"/etc/passwd\"", "\"a/b\"", "\"\"", "\".\"",
        "\"shard-00000-of-00003.safetensors/../x\"", "\"shard-0-of-3.safetensors\"",
        "\"shard-00003-of-00003.safetensors\"", "\"shard-00000-of-00003-0.safetensors\"",
        "\"shard-00000-of-00003-01.safetensors\"", "\"shard-00000-of-00003.safetensors\\u0000\"",
        "\"shard--0001-of-00003.safetensors\"", "\"shard-99999999999999999999-of-3.safetensors\""})
    refuses(shard + ": {\"bytes\"", std::string(name) + ": {\"bytes\"",
            "is not the name of a shard");
  refuses("\"bytes\": ", "\"bytes\": -", "bytes");
  refuses("\"bytes\": ", "\"bytes\": 99999999999999999999", "not a 64-bit integer");
  refuses("\"dtype\": \"F32\"", "\"dtype\": \"F33\"", "the dtype \"F33\"");
  refuses("\"dtype\": \"U8\"", "\"dtype\": \"I8\"", "the dtype \"I8\"");  // we never write it
  refuses("\"shape\": [7, 3]", "\"shape\": [7, -3]", "must not be negative");
  refuses("\"shape\": [7, 3]", "\"shape\": [7, 3.0]", "not a 64-bit integer");
  refuses("\"shape\": [7, 3]", "\"shape\": [7, 4611686018427387904]", "fit");
  refuses("\"shape\": [7, 3]", "\"shape\": [7, 1000000000000000000]", "63 bits");
  refuses("\"shape\": [7, 3]", "\"shape\": [7, 1000000]", "is too small for what it should hold");
  refuses("\"shape\": [7, 3]", "\"shape\": [1,1,1,1,1,1,1,1,1]", "at most 8 axes");
  refuses("\"shape\": [7, 3]", "\"shape\": [8, 3]", "rows [7, 8) are missing");
  refuses("\"shape\": [7, 3]", "\"shape\": [6, 3]", "rows [4, 7) are beyond the end");
  refuses("\"rows\": [2, 4]", "\"rows\": [2, 5]", "do not begin at 5");
  refuses("\"rows\": [2, 4]", "\"rows\": [2, 3]", "do not begin at 3");
  refuses("\"rows\": [2, 4]", "\"rows\": [3, 4]", "do not begin at 2");
  refuses("\"rows\": [2, 4]", "\"rows\": [2, 2]", "rows [2, 2)");
  refuses("\"rows\": [2, 4]", "\"rows\": [2, -4]", "rows [2, -4)");
  refuses("\"rows\": [2, 4]", "\"rows\": [2, 4, 6]", "rows must be two numbers");
  refuses("\"rows\": [2, 4], \"file\": \"shard-00001", "\"rows\": [2, 4], \"file\": \"shard-00000",
          "has two pieces of it");
  refuses("\"rows\": [2, 4], \"file\": \"shard-00001", "\"rows\": [2, 4], \"file\": \"shard-00009",
          "is not listed");
  refuses("\"rows\": [2, 4], \"file\"", "\"rows\": [2, 4], \"fill\"", "no member \"file\"");
  refuses("\"rows\": [2, 4]", "\"rows\":  [2, 4]", "was changed after it was written");
  refuses("\"metadata\"", "\"meta\": {}, \"metadata\"", "was changed after it was written");
  refuses("\"files\": {", "\"files\": [", "manifest");
  CHECK(error_of([&] { shards::Manifest::parse(std::string(5000, '['), "m.json"); }) != "");
}

TEST_CASE_FIXTURE(Fixture, "what a manifest says of a shard must be so") {
  // Two tensors of as many bytes in the same file: the sums are right, the header is not.
  const std::string swapped =
      replaced(replaced(manifest, "\"ids\": {\"dtype\": \"I32\", \"shape\": [6, 1]",
                        "\"ids\": {\"dtype\": \"F32\", \"shape\": [6, 1]"),
               "\"step\": \"7\"", "\"step\": \"8\"");
  write_bytes(manifest_path, sealed(swapped));
  const auto opened = ShardedCheckpoint::open(checkpoint);
  const std::string error = error_of([&] { opened.read("ids"); });
  CHECK(contains_text(error, "tensor ids is not F32 (2, 1), as the manifest says"));
  CHECK(same_bits(opened.read("model.weight"), sample_tensors().at("model.weight")));
}

TEST_CASE_FIXTURE(Fixture, "a shard that is cut or damaged is refused or reads consistently") {
  const std::string shard = read_bytes(shard_path);
  for (size_t length = 0; length < shard.size(); ++length) {
    write_bytes(shard_path, shard.substr(0, length));
    CAPTURE(length);
    REQUIRE_FALSE(reads_consistently(checkpoint));
  }
  // With the manifest that goes with each damaged file, all but the reader's own checks pass.
  shards::Manifest parsed = shards::Manifest::parse(manifest, manifest_path);
  std::mt19937_64 random(20263);
  int read = 0;
  constexpr int kRounds = 1200;
  for (int i = 0; i < kRounds; ++i) {
    const std::string bytes = damage(shard, random);
    write_bytes(shard_path, bytes);
    parsed.files.at("shard-00001-of-00003.safetensors") = {static_cast<int64_t>(bytes.size()),
                                                           crc32c(bytes.data(), bytes.size())};
    write_bytes(manifest_path, parsed.text());
    CAPTURE(i);
    bool result = false;
    REQUIRE_NOTHROW(result = reads_consistently(checkpoint, i % 8 == 0));
    read += result;
  }
  CHECK(read > 0);
  CHECK(read < kRounds / 2);
}

TEST_CASE("names of shards") {
  CHECK(shards::save_number("shard-00000-of-00001.safetensors") == 0);
  CHECK(shards::save_number("shard-00011-of-00012-345.safetensors") == 345);
  CHECK(shards::save_number("shard-100000-of-100001.safetensors") == 0);
  for (const char* name :
       {"", "shard-", "manifest.json", "shard-00000-of-00000.safetensors",
        "shard-00000-of-00001-.safetensors", "shard-00000-of-00001.safetensors ",
        "shard-00000-of-00001--1.safetensors", "shard-000000-of-00001.safetensors",
        "shard-00000-of-4294967297.safetensors"})
    CHECK_MESSAGE(!shards::save_number(name), name);
}

TEST_SUITE_END();
