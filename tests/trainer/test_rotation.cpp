#include <doctest/doctest.h>
#include <sys/stat.h>

#include <csignal>
#include <random>

#include <tendril/core/log.h>
#include <tendril/trainer/checkpoint/partial_folder.h>
#include <tendril/trainer/checkpoint/rotation.h>

#include "checkpoint_files.h"

using namespace tendril;
using namespace tendril::testing;
namespace fs = std::filesystem;
using Steps = std::vector<int64_t>;

namespace {

std::string name(int64_t step) { return "checkpoint-" + std::to_string(step); }

struct Row {
  Steps there;
  int64_t limit;
  Steps kept;
  Steps removed;
  std::optional<int64_t> present = std::nullopt;
};

Steps removed_by(const Row& row) {
  std::vector<CheckpointPath> there;
  for (const int64_t step : row.there) there.push_back({"out/" + name(step), step});
  std::vector<std::string> kept;
  for (const int64_t step : row.kept) kept.push_back(name(step));
  Steps removed;
  for (const auto& one : checkpoints_to_remove(there, row.limit, kept, row.present))
    removed.push_back(one.step);
  return removed;
}

struct Fixture {
  TemporaryFolder folder{memory_folder()};
  fs::path output = folder.path();

  void write(const Steps& steps) {
    for (const int64_t step : steps) write_sample(output / name(step));
  }
  void break_one(int64_t step) { fs::remove(output / name(step) / "trainer_state.json"); }
  Steps left() {
    Steps steps;
    for (const auto& one : list_checkpoints(output)) steps.push_back(one.step);
    return steps;
  }
};

}  // namespace

TEST_SUITE_BEGIN("rotation");

TEST_CASE("which checkpoints go") {
  const std::vector<Row> rows = {
      // there, limit, kept, removed
      {{5, 10, 15}, 0, {15}, {}},                           // no limit
      {{5, 10, 15}, -1, {15}, {}},                          //
      {{5, 10, 15}, 3, {15}, {}},                           // not beyond it
      {{5, 10, 15}, 4, {15}, {}},                           //
      {{}, 2, {}, {}},                                      //
      {{5, 10, 15, 20, 25}, 2, {25}, {5, 10, 15}},          // the oldest go
      {{5, 10, 15, 20, 25}, 1, {25}, {5, 10, 15, 20}},      //
      {{5, 10, 15, 20, 25}, 3, {5, 25}, {10, 15}},          // but not the best, wherever it is
      {{5, 10, 15, 20, 25}, 2, {5, 25}, {10, 15, 20}},      //
      {{5, 10, 15, 20, 25}, 1, {5, 25}, {10, 15, 20}},      // even if two stay for a limit of one
      {{5, 10, 15, 20, 25}, 1, {20, 25}, {5, 10, 15}},      //
      {{5, 10, 15, 20, 25}, 1, {25, 25}, {5, 10, 15, 20}},  // the best is the latest
      {{5, 10}, 1, {5, 10}, {}},                            //
      {{5, 10, 15}, 1, {7, 15}, {5, 10}},                   // kept, but not there
      {{5, 10, 15}, 1, {10}, {5, 15}},                      // the latest is not good
      // Of an earlier run that got to 1000, after resuming from 400:
      {{400, 500, 900, 1000}, 2, {500}, {900, 1000}, 500},
      {{400, 500, 900, 1000}, 3, {500}, {900}, 500},
      {{400, 500, 900, 1000}, 2, {500, 1000}, {900, 400}, 500},
      {{400, 500}, 1, {500}, {400}, 500},
  };
  for (const Row& row : rows) {
    CAPTURE(row.there);
    CAPTURE(row.limit);
    CAPTURE(row.kept);
    CHECK(removed_by(row) == row.removed);
  }
}

TEST_CASE_FIXTURE(Fixture, "the limit holds on disk, and nothing else is touched") {
  write({5, 10, 15, 20});
  fs::create_directory(output / "runs");
  CHECK(rotate_checkpoints(output, {}).empty());
  CHECK(rotate_checkpoints(output, {.save_total_limit = 0}).empty());
  CHECK(rotate_checkpoints(output, {.save_total_limit = 4}).empty());
  CHECK(left() == Steps{5, 10, 15, 20});
  const auto removed = rotate_checkpoints(output, {.save_total_limit = 2});
  CHECK(removed == std::vector<fs::path>{output / name(5), output / name(10)});
  CHECK(names_in(output) == std::vector<std::string>{name(15), name(20), "runs"});
  CHECK(checkpoint_faults(output / name(15)).empty());
  CHECK(checkpoint_faults(output / name(20)).empty());
  CHECK(rotate_checkpoints(output / "none", {.save_total_limit = 1}).empty());
}

TEST_CASE_FIXTURE(Fixture, "age is the step, not the time of the file") {
  write({15, 10, 5});  // 5 is the youngest file
  rotate_checkpoints(output, {.save_total_limit = 1});
  CHECK(left() == Steps{15});
}

TEST_CASE_FIXTURE(Fixture, "the best stays, also when the output folder was moved") {
  write({5, 10, 15, 20});
  rotate_checkpoints(output, {.save_total_limit = 2, .best = "/before/the/move/checkpoint-10/"});
  CHECK(left() == Steps{10, 20});
}

TEST_CASE_FIXTURE(Fixture, "the last good one stays, however old") {
  write({5, 10, 15, 20});
  break_one(15);
  break_one(20);
  rotate_checkpoints(output, {.save_total_limit = 1});
  CHECK(left() == Steps{10});
  write({30, 40});
  break_one(30);
  break_one(40);
  break_one(10);
  rotate_checkpoints(output, {.save_total_limit = 1});
  CHECK(left() == Steps{40});  // none is good: the last
}

TEST_CASE_FIXTURE(Fixture, "the one just written stays, and is the most recent") {
  write({400, 500, 900, 1000});  // resumed from 400 in a run that had got to 1000
  const auto removed =
      rotate_checkpoints(output, {.save_total_limit = 2, .just_written = output / name(500)});
  CHECK(left() == Steps{400, 500});
  CHECK(removed == std::vector<fs::path>{output / name(900), output / name(1000)});
}

TEST_CASE_FIXTURE(Fixture, "at the end a limit of one leaves the best alone, if it is good") {
  const RotationRules rules{
      .save_total_limit = 1, .best = output / name(10), .training_ended = true};
  write({5, 10, 15});
  RotationRules before_the_end = rules;
  before_the_end.training_ended = false;
  rotate_checkpoints(output, before_the_end);
  CHECK(left() == Steps{10, 15});
  RotationRules two = rules;
  two.save_total_limit = 2;
  rotate_checkpoints(output, two);
  CHECK(left() == Steps{10, 15});
  break_one(10);
  rotate_checkpoints(output, rules);
  CHECK(left() == Steps{10, 15});  // the damaged best would be all that is left
  write({10});
  rotate_checkpoints(output, rules);
  CHECK(left() == Steps{10});
}

TEST_CASE_FIXTURE(Fixture, "a kill while one is removed leaves it whole or gone") {
  std::mt19937_64 random(3);
  int left_behind = 0, gone = 0;
  for (int round = 0; round < 60 || (round < 1000 && left_behind < 3); ++round) {
    {
      CheckpointWriter writer(output / name(5));  // which also removes what the last kill left
      for (int i = 0; i < 100; ++i) writer.text("file " + std::to_string(i), "x");
      writer.commit();
    }
    REQUIRE(names_in(output).size() == 1);
    StartSign sign;
    const pid_t child = start_child([&] {
      sign.give();
      detail::remove_checkpoint(output / name(5));
      return 0;
    });
    REQUIRE(child > 0);
    REQUIRE(sign.await());
    ::usleep(static_cast<useconds_t>(random() % 1500));
    ::kill(child, SIGKILL);
    const int end = end_of_child(child);
    REQUIRE((end == 0 || end == -SIGKILL));
    const bool there = fs::exists(output / name(5));
    if (there) CHECK(checkpoint_faults(output / name(5)).empty());
    gone += !there;
    left_behind += !there && !names_in(output).empty();
  }
  CHECK(gone > 0);
  CHECK(left_behind >= 3);  // some kills came in the middle
}

TEST_CASE_FIXTURE(Fixture, "what cannot be removed is a warning") {
  if (::geteuid() == 0) return;  // root may remove anything
  write({5, 10});
  fs::permissions(output, fs::perms::owner_read | fs::perms::owner_exec);
  std::string warning;
  set_log_sink([&](LogLevel, const std::string& message) { warning = message; });
  const auto removed = rotate_checkpoints(output, {.save_total_limit = 1});
  set_log_sink({});
  fs::permissions(output, fs::perms::owner_all);
  CHECK(removed.empty());
  CHECK(contains_text(warning, name(5)));
  CHECK(left() == Steps{5, 10});
}

TEST_SUITE_END();
