#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>
#include <random>

#include <tendril/core/crc32c.h>

#include "checkpoint_files.h"

using namespace tendril;
using namespace tendril::testing;
using namespace std::string_literals;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

namespace {

struct Fixture {
  TemporaryFolder folder{memory_folder()};
  fs::path output = folder.path() / "out";
  fs::path checkpoint = output / "checkpoint-1";
  Fixture() { write_sample(checkpoint); }
};

const Names kFiles = {"callbacks/own.txt", "manifest.json", "model.safetensors",
                      "trainer_state.json"};

// Exactly one fault, which begins with the file's name.
bool only_fault_is(const fs::path& checkpoint, const std::string& name, const std::string& part) {
  const Names faults = checkpoint_faults(checkpoint);
  return faults.size() == 1 && faults[0].starts_with(name + ": ") && contains_text(faults[0], part);
}

// Writes one byte without writing the rest again: the tests below do it ten thousand times.
class ByteChanger {
 public:
  explicit ByteChanger(const fs::path& file) : descriptor_(::open(file.c_str(), O_WRONLY)) {}
  ~ByteChanger() { ::close(descriptor_); }
  void set(size_t at, char byte) {
    REQUIRE(::pwrite(descriptor_, &byte, 1, static_cast<off_t>(at)) == 1);
  }

 private:
  int descriptor_;
};

// A manifest that lists one file, with the right checksum of its own.
std::string manifest_of(const std::string& name, int version = 1) {
  const std::string text =
      "{\n  \"format\": \"tendril checkpoint\",\n  \"version\": " + std::to_string(version) +
      ",\n  \"files\": {\n    \"" + name + "\": {\"bytes\": 0, \"crc32c\": \"00000000\"}\n  },\n  ";
  char checksum[9];
  std::snprintf(checksum, sizeof checksum, "%08x", crc32c(text.data(), text.size()));
  return text + "\"crc32c\": \"" + checksum + "\"\n}\n";
}

// One to three changes at random places: bits, bytes that mean something in JSON, cuts, copies.
std::string damage(std::string text, std::mt19937_64& random) {
  const auto below = [&](size_t bound) { return static_cast<size_t>(random() % bound); };
  const std::string interesting = "{}[]\",:0129-.eE\\ \n\0\xFF\x80u/"s;
  for (size_t i = 1 + below(3); i > 0 && !text.empty(); --i) {
    const size_t at = below(text.size());
    switch (below(6)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1:
        text[at] = interesting[below(interesting.size())];
        break;
      case 2:
        text.insert(at, 1 + below(100), interesting[below(interesting.size())]);
        break;
      case 3:
        text.erase(at, 1 + below(20));
        break;
      case 4:
        text.resize(at);
        break;
      default:
        text.insert(at, text.substr(below(text.size()), below(60)));
    }
  }
  return text;
}

}  // namespace

TEST_SUITE_BEGIN("checkpoint_folder");

TEST_CASE_FIXTURE(Fixture, "every changed byte of every file is found, and the file is named") {
  REQUIRE(checkpoint_faults(checkpoint).empty());
  for (const std::string& name : kFiles) {
    const std::string bytes = read_bytes((checkpoint / name).string());
    REQUIRE(bytes.size() > 0);
    ByteChanger file(checkpoint / name);
    for (size_t at = 0; at < bytes.size(); ++at) {
      for (const int change : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
        file.set(at, static_cast<char>(bytes[at] ^ change));
        if (only_fault_is(checkpoint, name, "")) continue;
        CAPTURE(name);
        CAPTURE(at);
        CAPTURE(change);
        CHECK(checkpoint_faults(checkpoint) == Names{name + ": ..."});
      }
      file.set(at, bytes[at]);
    }
  }
  CHECK(checkpoint_faults(checkpoint).empty());
}

TEST_CASE_FIXTURE(Fixture, "every cut of every file is found, and every byte added") {
  for (const std::string& name : kFiles) {
    const fs::path file = checkpoint / name;
    const std::string bytes = read_bytes(file.string());
    const auto is_found = [&](size_t length) {
      const std::string sizes =
          std::to_string(length) + " bytes instead of " + std::to_string(bytes.size());
      return only_fault_is(checkpoint, name, name == "manifest.json" ? "" : sizes);
    };
    for (size_t length = 0; length < bytes.size(); ++length) {
      fs::resize_file(file, length);
      CAPTURE(name);
      CAPTURE(length);
      CHECK(is_found(length));
      write_bytes(file.string(), bytes);
    }
    write_bytes(file.string(), bytes + "\n");
    CHECK(is_found(bytes.size() + 1));
    write_bytes(file.string(), bytes);
  }
  CHECK(checkpoint_faults(checkpoint).empty());
}

TEST_CASE_FIXTURE(Fixture, "every missing file is found") {
  for (const std::string& name : kFiles) {
    fs::rename(checkpoint / name, folder.path() / "aside");
    CHECK(only_fault_is(checkpoint, name, "missing"));
    fs::rename(folder.path() / "aside", checkpoint / name);
  }
  fs::remove_all(checkpoint / "callbacks");
  CHECK(only_fault_is(checkpoint, "callbacks/own.txt", "missing"));
}

TEST_CASE_FIXTURE(Fixture, "files of the same size, swapped, are found") {
  write_bytes((checkpoint / "callbacks/own.txt").string(), "2");
  CHECK(only_fault_is(checkpoint, "callbacks/own.txt", "checksum"));
}

TEST_CASE_FIXTURE(Fixture, "what is no file any more is found without waiting for it") {
  const fs::path file = checkpoint / "trainer_state.json";
  fs::remove(file);
  REQUIRE(::mkfifo(file.c_str(), 0600) == 0);
  CHECK(only_fault_is(checkpoint, "trainer_state.json", "not a regular file"));
  fs::remove(file);
  fs::create_directory(file);
  CHECK(only_fault_is(checkpoint, "trainer_state.json", "not a regular file"));
  fs::remove(file);
  fs::create_symlink("nowhere", file);
  CHECK(only_fault_is(checkpoint, "trainer_state.json", "missing"));
  fs::remove(checkpoint / "manifest.json");
  REQUIRE(::mkfifo((checkpoint / "manifest.json").c_str(), 0600) == 0);
  CHECK(only_fault_is(checkpoint, "manifest.json", "not a regular file"));
}

TEST_CASE_FIXTURE(Fixture, "files that the manifest does not know do no harm") {
  write_bytes((checkpoint / "notes.txt").string(), "mine");
  CHECK(checkpoint_faults(checkpoint).empty());
  CHECK(error_of([&] { check_checkpoint(checkpoint); }).empty());
}

TEST_CASE_FIXTURE(Fixture, "the error lists every fault") {
  fs::remove(checkpoint / "trainer_state.json");
  write_bytes((checkpoint / "model.safetensors").string(), "short");
  const std::string error = error_of([&] { check_checkpoint(checkpoint); });
  CHECK(contains_text(error, checkpoint.string()));
  CHECK(contains_text(error, "model.safetensors: 5 bytes instead of"));
  CHECK(contains_text(error, "; trainer_state.json: missing"));
}

TEST_CASE_FIXTURE(Fixture, "a folder of another program is refused with what it is good for") {
  fs::remove(checkpoint / "manifest.json");
  CHECK(only_fault_is(checkpoint, "manifest.json", "Hugging Face"));
  CHECK(contains_text(error_of([&] { check_checkpoint(output / "none"); }), "missing"));
  CHECK(contains_text(error_of([&] { check_checkpoint(checkpoint / "model.safetensors"); }),
                      "not a folder"));
}

TEST_CASE_FIXTURE(Fixture, "a manifest may list nothing outside of the folder") {
  const std::string path = (checkpoint / "manifest.json").string();
  write_bytes((output / "empty").string(), "");
  write_bytes((checkpoint / "empty").string(), "");
  write_bytes(path, manifest_of("empty"));
  CHECK(checkpoint_faults(checkpoint).empty());  // so that what follows fails for its name alone
  for (const std::string& name :
       Names{"../empty", (output / "empty").string(), "callbacks/../empty", "callbacks/../../empty",
             "./empty", "", "..", "callbacks/", "empty\\u0000x"}) {
    write_bytes(path, manifest_of(name));
    const Names faults = checkpoint_faults(checkpoint);
    CAPTURE(name);
    REQUIRE(faults.size() == 1);
    CHECK(contains_text(faults[0], "not inside the folder"));
  }
}

TEST_CASE_FIXTURE(Fixture, "a manifest of a later format is refused as such") {
  write_bytes((checkpoint / "manifest.json").string(), manifest_of("x", 2));
  CHECK(
      only_fault_is(checkpoint, "manifest.json", "format version 2; this Tendril reads version 1"));
  for (const char* other : {"{}", "[]", "7", R"({"format": "x"})", "null"}) {
    write_bytes((checkpoint / "manifest.json").string(), other);
    CHECK(only_fault_is(checkpoint, "manifest.json", "not the manifest of a Tendril checkpoint"));
  }
}

TEST_CASE_FIXTURE(Fixture, "no damage to a manifest gets through, or worse") {
  const std::string path = (checkpoint / "manifest.json").string();
  const std::string whole = read_bytes(path);
  std::mt19937_64 random(11);
  int refused = 0, changed = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::string text = damage(whole, random);
    write_bytes(path, text);
    changed += text != whole;
    refused += !checkpoint_faults(checkpoint).empty();
  }
  CHECK(changed > 3900);
  CHECK(refused == changed);
}

TEST_CASE_FIXTURE(Fixture, "checkpoints are listed by number") {
  for (const char* name :
       {"checkpoint-20", "checkpoint-3", "checkpoint-100", "checkpoint-", "checkpoint-x",
        "checkpoint-5x", "xcheckpoint-5", "checkpoint--5", "checkpoint-+5", "checkpoint- 5",
        "Checkpoint-5", ".checkpoint-5.partial-1-1", "checkpoint-99999999999999999999",
        "checkpoint-5.tmp"})
    fs::create_directory(output / name);
  write_bytes((output / "checkpoint-7").string(), "a file");
  fs::create_symlink("nowhere", output / "checkpoint-8");
  std::vector<std::pair<int64_t, std::string>> found;
  for (const auto& [path, step] : list_checkpoints(output))
    found.emplace_back(step, path.lexically_relative(output).string());
  CHECK(found == std::vector<std::pair<int64_t, std::string>>{{1, "checkpoint-1"},
                                                              {3, "checkpoint-3"},
                                                              {20, "checkpoint-20"},
                                                              {100, "checkpoint-100"}});
  CHECK(list_checkpoints(output / "none").empty());
  write_bytes(folder.file("file"), "x");
  CHECK(contains_text(error_of([&] { list_checkpoints(folder.path() / "file"); }),
                      "cannot read folder"));
}

TEST_CASE_FIXTURE(Fixture, "the latest whole checkpoint is found, the damaged ones are told") {
  CHECK(find_valid_checkpoint(output) == checkpoint);
  write_sample(output / "checkpoint-20");
  write_sample(output / "checkpoint-3");
  CHECK(find_valid_checkpoint(output) == output / "checkpoint-20");
  fs::create_directory(output / "checkpoint-30");
  fs::remove(output / "checkpoint-20/trainer_state.json");
  Names refused;
  const auto on_refused = [&](const fs::path& path, const Names& faults) {
    refused.push_back(path.filename().string() + " " + faults.at(0).substr(0, 20));
  };
  CHECK(find_valid_checkpoint(output, on_refused) == output / "checkpoint-3");
  CHECK(refused ==
        Names{"checkpoint-30 manifest.json: missi", "checkpoint-20 trainer_state.json: "});
  fs::remove(output / "checkpoint-3/trainer_state.json");
  fs::remove(checkpoint / "trainer_state.json");
  refused.clear();
  CHECK_FALSE(find_valid_checkpoint(output, on_refused).has_value());
  CHECK(refused.size() == 4);
  CHECK_FALSE(find_valid_checkpoint(output / "none").has_value());
}

TEST_SUITE_END();
