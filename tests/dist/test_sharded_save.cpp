// What goes wrong while a sharded checkpoint is written: an Error on all ranks, and the checkpoint
// before stays whole.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>
#include <random>
#include <sstream>

#include <tendril/core/creation.h>

#include "../process_tools.h"
#include "sharded_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace tendril::testing;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

namespace {

struct Fixture {
  TemporaryFolder folder{memory_folder()};
  fs::path checkpoint = folder.path() / "checkpoint";
  std::string file(const std::string& name) const { return (checkpoint / name).string(); }
};

// All ranks have the same complaint, which has all `parts`.
void check_same(const Names& errors, const Names& parts) {
  CAPTURE(errors[0]);
  for (const std::string& error : errors) CHECK(error == errors[0]);
  for (const std::string& part : parts) CHECK_MESSAGE(contains_text(errors[0], part), part);
}

// One tensor: rows [begin, end) of 4 rows.
std::vector<ShardedTensor> part(int64_t begin, int64_t end) {
  return {{"w", zeros({end - begin, 2}), {4, 2}, begin}};
}

}  // namespace

TEST_SUITE_BEGIN("sharded_save");

TEST_CASE_FIXTURE(Fixture, "gaps, overlaps and differences are errors on all ranks") {
  const auto errors = [&](const std::vector<ShardedTensor>& of_first,
                          const std::vector<ShardedTensor>& of_second) {
    return errors_of_save(checkpoint, 3, [&](int rank) {
      return rank == 0 ? of_first : rank == 1 ? of_second : std::vector<ShardedTensor>{};
    });
  };
  check_same(errors(part(0, 1), part(2, 4)), {"\"w\" of shape (4, 2)", "no rank has rows [1, 2)"});
  check_same(errors(part(1, 2), part(2, 4)), {"no rank has rows [0, 1)"});
  check_same(errors(part(2, 3), part(0, 2)), {"no rank has rows [3, 4)"});
  check_same(errors(part(0, 0), part(4, 4)), {"no rank has rows [0, 4)"});
  check_same(errors(part(0, 3), part(2, 4)),
             {"\"w\"", "[0, 3) of rank 0 and [2, 4) of rank 1 overlap"});
  check_same(errors(part(0, 4), part(0, 2)), {"[0, 2) of rank 1 and [0, 4) of rank 0 overlap"});
  check_same(errors(part(0, 2), {{"w", zeros({2, 3}), {4, 3}, 2}}),
             {"\"w\" differs between ranks: f32 (4, 2) on rank 0, f32 (4, 3) on rank 1"});
  check_same(errors(part(0, 2), {{"w", zeros({2, 2}, bf16), {4, 2}, 2}}),
             {"f32 (4, 2) on rank 0, bf16 (4, 2) on rank 1"});
  CHECK_FALSE(fs::exists(file("manifest.json")));
  check_same(errors(part(0, 2), part(2, 4)), {});
  CHECK(fs::exists(file("manifest.json")));
}

TEST_CASE_FIXTURE(Fixture, "what one rank cannot write is an error on all") {
  const auto error = [&](const std::vector<ShardedTensor>& of_second, const Names& parts) {
    const Names errors = errors_of_save(checkpoint, 2, [&](int rank) {
      return rank == 1 ? of_second : std::vector<ShardedTensor>{};
    });
    check_same(errors, parts);
    CHECK(contains_text(errors[0], "[save_sharded] rank 1: "));
    CHECK_FALSE(fs::exists(checkpoint));
  };
  error({{"w", {}, {2}}}, {"\"w\" is undefined"});
  error({{"w", zeros({2}), {2}}, {"w", zeros({2}), {2}}}, {"\"w\" is given twice"});
  error({{"", zeros({2}), {2}}}, {"cannot be a tensor's name"});
  error({{"__metadata__", zeros({2}), {2}}}, {"cannot be a tensor's name"});
  error({{"\xFF", zeros({2}), {2}}}, {"UTF-8"});
  error({{"w", zeros({2, 3}), {4, 2}}}, {"\"w\" has shape (2, 3), which are no rows of (4, 2)"});
  error({{"w", zeros({2}), {4, 2}}}, {"no rows of (4, 2)"});
  error({{"w", zeros({0}), {}}}, {"no rows of ()"});
  error({{"w", zeros({2}), {4}, 3}}, {"\"w\" has no rows [3, 5); its whole shape is (4,)"});
  error({{"w", zeros({2}), {4}, -1}}, {"\"w\" has no rows [-1, 1)"});
  error({{"w", zeros({}), {}, 1}}, {"\"w\" has no rows [1, 2)"});
}

TEST_CASE_FIXTURE(Fixture, "metadata that JSON cannot say is refused before anything is written") {
  const Names errors = errors_of_save(
      checkpoint, 2, [](int rank) { return part(2 * rank, 2 * rank + 2); }, {{"k", "\xFF"}});
  check_same(errors, {"UTF-8"});
  CHECK_FALSE(fs::exists(checkpoint));
}

TEST_CASE_FIXTURE(Fixture, "a folder that cannot be made, or is of something else, is refused") {
  const auto error = [&](const fs::path& path) {
    return errors_of_save(path, 2, [](int rank) { return part(2 * rank, 2 * rank + 2); });
  };
  write_bytes(folder.file("file"), "x");
  check_same(error(folder.path() / "file"), {"rank 0: ", "/file"});
  check_same(error(folder.path() / "file" / "deeper"), {"rank 0: cannot make folder", "/deeper"});
  fs::create_directories(checkpoint);
  for (const char* manifest : {"{}", "", "{\"format\": \"tendril checkpoint\", \"version\": 1}"}) {
    write_bytes(file("manifest.json"), manifest);
    check_same(error(checkpoint), {"rank 0: ", "no whole sharded checkpoint", "manifest.json"});
    CHECK(read_bytes(file("manifest.json")) == manifest);
    CHECK(names_in(checkpoint) == Names{"manifest.json"});
  }
}

TEST_CASE_FIXTURE(Fixture, "ranks that see different folders are found out") {
  const fs::path other = folder.path() / "other machine";
  fs::create_directories(other);
  Names errors(2);
  run_ranks(2, [&](const std::shared_ptr<ProcessGroup>& group) {
    const int rank = group->rank();
    errors[static_cast<size_t>(rank)] = error_of([&] {
      save_sharded(*group, rank == 0 ? checkpoint : other, part(2 * rank, 2 * rank + 2));
    });
  });
  check_same(errors, {"rank 0: ", "/shard-00001-of-00002.safetensors is missing"});
  CHECK(names_in(checkpoint).empty());
}

TEST_CASE_FIXTURE(Fixture, "a save takes the place of the one before; other files stay") {
  const StateDict old = sample_tensors(0), next = sample_tensors(1);
  save_cut(checkpoint, old, 2);
  write_bytes(file("notes.txt"), "mine");
  write_bytes(file("shard-7.safetensors"), "mine");
  const auto opened = ShardedCheckpoint::open(checkpoint);
  const Tensor before = opened.read("model.weight", 0, 3);
  save_cut(checkpoint, next, 3, true);
  CHECK(names_in(checkpoint) == Names{"manifest.json", "notes.txt",
                                      "shard-00000-of-00003-1.safetensors",
                                      "shard-00001-of-00003-1.safetensors",
                                      "shard-00002-of-00003-1.safetensors", "shard-7.safetensors"});
  CHECK(holds(ShardedCheckpoint::open(checkpoint, true), next));
  // Who had opened the old one sees the old one, or an error where its file was not mapped yet.
  CHECK(same_bits(opened.read("model.weight", 0, 3), before));
  CHECK(contains_text(error_of([&] { opened.read("model.weight", 3, 7); }),
                      "shard-00001-of-00002.safetensors"));
  save_cut(checkpoint, old, 1);
  CHECK(names_in(checkpoint).size() == 4);
  CHECK(fs::exists(file("shard-00000-of-00001-2.safetensors")));
  CHECK(holds(ShardedCheckpoint::open(checkpoint, true), old));
}

TEST_CASE_FIXTURE(
    Fixture, "a rank that ends before or between leaves the old one; the next save cleans up") {
  const StateDict old = sample_tensors(0), next = sample_tensors(1);
  save_cut(checkpoint, old, 3);
  const Names before = names_in(checkpoint);
  const std::string error = error_of([&] {
    run_ranks(3, [&](const std::shared_ptr<ProcessGroup>& group) {
      if (group->rank() == 1) fail("rank 1 ends");
      save_sharded(*group, checkpoint, cut(next, group->rank(), 3));
    });
  });
  CHECK(contains_text(error, "rank 1 ends"));
  CHECK(names_in(checkpoint) == before);
  CHECK(holds(ShardedCheckpoint::open(checkpoint, true), old));
  // What a machine that lost its power in the middle of the second save leaves.
  write_bytes(file("shard-00000-of-00003-1.safetensors"), "half");
  write_bytes(file("shard-00001-of-00003-1.safetensors.tmp-123-0"), "half");
  write_bytes(file("manifest.json.tmp-123-1"), "{");
  CHECK(holds(ShardedCheckpoint::open(checkpoint, true), old));
  save_cut(checkpoint, next, 1);
  CHECK(names_in(checkpoint) == Names{"manifest.json", "shard-00000-of-00001-2.safetensors"});
  CHECK(holds(ShardedCheckpoint::open(checkpoint, true), next));
}

TEST_CASE_FIXTURE(Fixture, "a full disk on one rank is an error on all, and the old one stays") {
  const StateDict old = sample_tensors(0);
  save_cut(checkpoint, old, 2);
  const Names before = names_in(checkpoint);
  int channel[2];
  REQUIRE(::pipe(channel) == 0);
  // No file of the child may grow beyond the limit: writing fails in the middle of the one that is
  // too long, as it would on a full disk.
  const pid_t child = start_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    const auto report = [&](const Names& errors) {
      std::string lines;
      for (const std::string& error : errors) lines += error + "\n";
      return ::write(channel[1], lines.data(), lines.size()) == static_cast<ssize_t>(lines.size());
    };
    const Tensor large = Tensor::from(std::vector<float>(2000, 1.0f), {2000});
    const Tensor small = Tensor::from<float>({1.0f}, {1});
    // The shard of rank 1 does not fit.
    const bool told = report(errors_of_save(checkpoint, 3, [&](int rank) {
      return std::vector<ShardedTensor>{
          {"w" + std::to_string(rank), rank == 1 ? large : small, {rank == 1 ? 2000 : 1}}};
    }));
    if (names_in(checkpoint) != before) return 3;
    // All shards do, but the manifest does not.
    const bool told_again = report(errors_of_save(
        checkpoint, 3,
        [&](int rank) {
          return std::vector<ShardedTensor>{{"w" + std::to_string(rank), small, {1}}};
        },
        {{"long", std::string(5000, 'x')}}));
    return told && told_again ? 0 : 2;
  });
  ::close(channel[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t count; (count = ::read(channel[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(count));
  ::close(channel[0]);
  REQUIRE(end_of_child(child) == 0);
  Names lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  REQUIRE(lines.size() == 6);
  check_same({lines[0], lines[1], lines[2]},
             {"rank 1: ", "/shard-00001-of-00003-1.safetensors: File too large"});
  check_same({lines[3], lines[4], lines[5]}, {"rank 0: ", "/manifest.json: File too large"});
  CHECK(names_in(checkpoint) == before);
  CHECK(holds(ShardedCheckpoint::open(checkpoint, true), old));
}

TEST_CASE_FIXTURE(Fixture, "a kill at any moment leaves the old checkpoint or the new one, whole") {
  save_cut(checkpoint, sample_tensors(0), 1, false, {{"version", "0"}});
  std::mt19937_64 random(11);
  int in_the_middle = 0, version = 0;
  // A busy machine may need more rounds for as many kills in the middle.
  for (int round = 0; round < 30 || (round < 1000 && in_the_middle < 10); ++round) {
    StartSign sign;
    const pid_t child = start_child([&] {
      for (int next = version + 1;; ++next) {
        save_cut(checkpoint, sample_tensors(next), 1 + next / 2 % 3, false,
                 {{"version", std::to_string(next)}});
        sign.give();
      }
      return 0;
    });
    REQUIRE(child > 0);
    REQUIRE(sign.await());
    ::usleep(static_cast<useconds_t>(random() % 2000));
    REQUIRE(::kill(child, SIGKILL) == 0);
    REQUIRE(end_of_child(child) == -SIGKILL);  // it did not fail by itself
    const auto opened = ShardedCheckpoint::open(checkpoint, true);
    const int found = std::stoi(opened.metadata().at("version"));
    // A whole checkpoint is a manifest and a file per rank.
    in_the_middle += names_in(checkpoint).size() > static_cast<size_t>(2 + found / 2 % 3);
    REQUIRE(found >= version);
    REQUIRE(holds(opened, sample_tensors(found)));
    version = found;
  }
  // The kills did come while there was something to break.
  CHECK(in_the_middle >= 10);
  CHECK(version > 0);
}

TEST_SUITE_END();
