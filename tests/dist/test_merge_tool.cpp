// tendril-merge, run as its users run it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <tendril/core/safetensors.h>

#include "../process_tools.h"
#include "sharded_tools.h"

using namespace tendril;
using namespace tendril::testing;
namespace fs = std::filesystem;

namespace {

struct Fixture {
  TemporaryFolder folder{memory_folder()};
  std::string checkpoint = folder.file("checkpoint");
  std::string merged = folder.file("merged.safetensors");
  StateDict whole = sample_tensors();
  std::string out, err;  // what it printed

  Fixture() { save_cut(checkpoint, whole, 3); }

  // The exit status.
  int run(std::vector<std::string> arguments) {
    const std::string out_file = folder.file("out.txt"), err_file = folder.file("err.txt");
    arguments.insert(arguments.begin(), TENDRIL_MERGE);
    const pid_t child = start_child([&] {
      const int to_out = ::open(out_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      const int to_err = ::open(err_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      if (::dup2(to_out, STDOUT_FILENO) < 0 || ::dup2(to_err, STDERR_FILENO) < 0) return 97;
      std::vector<char*> words;
      for (std::string& argument : arguments) words.push_back(argument.data());
      words.push_back(nullptr);
      ::execv(words[0], words.data());
      return 96;
    });
    const int status = end_of_child(child);
    out = read_bytes(out_file);
    err = read_bytes(err_file);
    return status;
  }
};

}  // namespace

TEST_SUITE_BEGIN("merge_tool");

TEST_CASE_FIXTURE(Fixture, "merges into a file") {
  CHECK(run({checkpoint, merged}) == 0);
  CHECK(err == "");
  CHECK(out == merged + ": " + std::to_string(fs::file_size(merged)) + " bytes\n");
  const StateDict found = load_safetensors(merged);
  CHECK(found.size() == whole.size());
  for (const auto& entry : whole)
    CHECK_MESSAGE(same_bits(found.at(entry.first), entry.second), entry.first);
}

TEST_CASE_FIXTURE(Fixture, "merges the weights in another dtype into a folder") {
  const std::string target = folder.file("new/folder");
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"--dtype", "bf16", "--prefix", "model."},
        std::vector<std::string>{"--prefix=model.", "--dtype=bfloat16", "--no-verify"}}) {
    std::vector<std::string> words = options;
    words.push_back(checkpoint);
    words.push_back(target);
    CHECK(run(words) == 0);
    const StateDict found = load_safetensors(target + "/model.safetensors");
    CHECK(found.size() == 3);
    CHECK(found.at("weight").dtype() == bf16);
    CHECK(found.at("weight").to_vector<float>() == whole.at("model.weight").to_vector<float>());
    fs::remove_all(target);
  }
}

TEST_CASE_FIXTURE(Fixture, "a checkpoint that cannot be merged is a message and status 1") {
  CHECK(run({folder.file("nowhere"), merged}) == 1);
  CHECK(contains_text(err, "tendril-merge: "));
  CHECK(contains_text(err, "nowhere/manifest.json"));
  CHECK(run({checkpoint, merged, "--prefix", "modle."}) == 1);
  CHECK(contains_text(err, "none of which begins with \"modle.\""));
  // A changed byte is found unless one asks not to look.
  const std::string shard = checkpoint + "/shard-00000-of-00003.safetensors";
  std::string bytes = read_bytes(shard);
  const size_t at = bytes.size() - 1;
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  write_bytes(shard, bytes);
  CHECK(run({checkpoint, merged}) == 1);
  CHECK(contains_text(err, shard + " is damaged"));
  CHECK(out == "");
  CHECK_FALSE(fs::exists(merged));
  CHECK(run({checkpoint, "--no-verify", merged}) == 0);
}

TEST_CASE_FIXTURE(Fixture, "wrong arguments are a message and status 2") {
  const auto usage_error = [&](const std::vector<std::string>& words, const std::string& part) {
    CHECK(run(words) == 2);
    CHECK_MESSAGE(contains_text(err, part), err);
    CHECK(out == "");
    CHECK_FALSE(fs::exists(merged));
  };
  usage_error({}, "got 0 paths");
  usage_error({checkpoint}, "got 1 paths");
  usage_error({checkpoint, merged, merged}, "got 3 paths");
  usage_error({checkpoint, merged, "--dtype", "i64"}, "must be f32, bf16, f16 or f64; got \"i64\"");
  usage_error({checkpoint, merged, "--dtype"}, "--dtype needs a value");
  usage_error({checkpoint, merged, "--dtpye=f32"}, "unknown argument --dtpye=f32");
  usage_error({checkpoint, merged, "--no-verify=1"}, "unknown argument --no-verify=1");
  usage_error({checkpoint, merged, "--unsafe_serialization"}, "unknown argument");
  CHECK(run({"--help"}) == 0);
  CHECK(contains_text(out, "CHECKPOINT OUT"));
  CHECK(contains_text(out, "accelerate merge-weights"));
  // A path may look like an option.
  CHECK(run({"--", "--dtype", merged}) == 1);
  CHECK(contains_text(err, "--dtype/manifest.json"));
}

TEST_SUITE_END();
