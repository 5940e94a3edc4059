#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <cstdlib>

#include <tendril/core/error.h>
#include <tendril/trainer/callbacks/default_flow.h>
#include <tendril/trainer/callbacks/reporters/csv.h>
#include <tendril/trainer/callbacks/reporters/csv_text.h>
#include <tendril/trainer/callbacks/reporters/jsonl.h>
#include <tendril/trainer/callbacks/reporters/make_reporters.h>
#include <tendril/trainer/callbacks/reporters/tensorboard.h>

#include "file_tools.h"
#include "trainer/callback_tools.h"
#include "trainer/event_reader.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// A run with one reporter (or several), at some step.
struct ReportedRun : HandDriven {
  explicit ReportedRun(const std::vector<std::shared_ptr<TrainerCallback>>& reporters) {
    state.max_steps = 1000;
    handler.add(std::make_shared<DefaultFlowCallback>());
    for (const auto& reporter : reporters) handler.add(reporter);
  }
  void begin(int64_t step = 0) {
    state.global_step = step;
    fire(&TrainerCallback::on_train_begin);
  }
  void log_at(int64_t step, const std::string& text) {
    state.global_step = step;
    log(row(text));
  }
};

std::vector<std::string> names_of(const std::vector<std::shared_ptr<TrainerCallback>>& callbacks) {
  std::vector<std::string> names;
  for (const auto& callback : callbacks) names.push_back(callback->name());
  return names;
}

std::vector<std::string> files_below(const std::filesystem::path& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

TEST_SUITE_BEGIN("reporters");

TEST_CASE("jsonl: a line per row, at once in the file") {
  const TemporaryFolder folder;
  const std::string path = folder.file("new/log.jsonl");
  ReportedRun run({std::make_shared<JsonlReporter>(path)});
  run.begin();
  CHECK(read_bytes(path).empty());
  run.log_at(10, R"({"loss": 2.5, "learning_rate": 5e-05, "epoch": 1.0})");
  CHECK(read_bytes(path) == "{\"step\":10,\"loss\":2.5,\"learning_rate\":5e-05,\"epoch\":1.0}\n");
  run.log_at(10, R"({"eval_loss": null, "note": "a\nb"})");
  CHECK(read_bytes(path) ==
        "{\"step\":10,\"loss\":2.5,\"learning_rate\":5e-05,\"epoch\":1.0}\n"
        "{\"step\":10,\"eval_loss\":null,\"note\":\"a\\nb\"}\n");
}

TEST_CASE("jsonl: a resumed run keeps rows up to its step, a new one none") {
  const TemporaryFolder folder;
  const std::string path = folder.file("log.jsonl");
  write_bytes(path,
              "{\"step\":10, \"loss\":3}\n{\"loss\":2.0,\"step\":20}\n"
              "{\"step\":30,\"loss\":1}\n{\"step\":40,\"lo");
  {
    LogCapture log;
    ReportedRun run({std::make_shared<JsonlReporter>(path)});
    run.begin(20);
    CHECK(log.messages.size() == 1);  // of the line that was cut
    run.log_at(30, R"({"loss": 1.5})");
  }
  CHECK(read_bytes(path) ==
        "{\"step\":10, \"loss\":3}\n{\"loss\":2.0,\"step\":20}\n{\"step\":30,\"loss\":1.5}\n");
  ReportedRun anew({std::make_shared<JsonlReporter>(path)});
  anew.begin();
  CHECK(read_bytes(path).empty());
}

TEST_CASE("jsonl: a resumed run whose file is gone takes the rows of the checkpoint") {
  const TemporaryFolder folder;
  const std::string path = folder.file("log.jsonl");
  ReportedRun run({std::make_shared<JsonlReporter>(path)});
  run.state.log_history = {row(R"({"epoch": 0.5, "loss": 3.5, "step": 10})")};
  run.begin(10);
  run.log_at(20, R"({"loss": 1.5})");
  CHECK(read_bytes(path) ==
        "{\"step\":10,\"epoch\":0.5,\"loss\":3.5}\n{\"step\":20,\"loss\":1.5}\n");
}

TEST_CASE("jsonl and csv: a row outside of training joins what is there, but no half line") {
  const LogCapture log;
  const TemporaryFolder folder;
  write_bytes(folder.file("log.jsonl"), "{\"step\":10,\"loss\":3}\n{\"step\":2");
  write_bytes(folder.file("log.csv"), "step,loss\n10,3\n2");
  ReportedRun run({std::make_shared<JsonlReporter>(folder.file("log.jsonl")),
                   std::make_shared<CsvReporter>(folder.file("log.csv"))});
  run.log_at(0, R"({"eval_loss": 2.0})");
  CHECK(read_bytes(folder.file("log.jsonl")) ==
        "{\"step\":10,\"loss\":3}\n{\"step\":0,\"eval_loss\":2.0}\n");
  CHECK(read_bytes(folder.file("log.csv")) == "step,loss,eval_loss\n10,3,\n0,,2.0\n");
}

TEST_CASE("csv text is quoted as RFC 4180 has it, and read back") {
  const std::vector<std::string> fields = {"plain", "", "a,b", "say \"hi\"", "two\nlines", "c\rd"};
  const std::string line = csv_line(fields);
  CHECK(line == "plain,,\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\",\"c\rd\"\n");
  CHECK(parse_csv(line + line) == std::vector<std::vector<std::string>>{fields, fields});
  CHECK(parse_csv("a,b\r\n1,\r\n") == std::vector<std::vector<std::string>>{{"a", "b"}, {"1", ""}});
  CHECK(parse_csv("a\n\"\"") == std::vector<std::vector<std::string>>{{"a"}, {""}});
  CHECK(parse_csv("").empty());
}

TEST_CASE("csv: columns appear when their keys do") {
  const TemporaryFolder folder;
  const std::string path = folder.file("log.csv");
  ReportedRun run({std::make_shared<CsvReporter>(path)});
  run.begin();
  run.log_at(10, R"({"loss": 2.5, "epoch": 1.0})");
  CHECK(read_bytes(path) == "step,loss,epoch\n10,2.5,1.0\n");
  run.log_at(10, R"({"eval_loss": 1.5, "note": "a,\"b\"", "epoch": 1.0})");
  run.log_at(20, R"({"epoch": 2.0, "loss": null})");
  CHECK(read_bytes(path) ==
        "step,loss,epoch,eval_loss,note\n"
        "10,2.5,1.0,,\n"
        "10,,1.0,1.5,\"a,\"\"b\"\"\"\n"
        "20,,2.0,,\n");
  CHECK(folder.file_count() == 1);
}

TEST_CASE("csv: a resumed run keeps columns, and rows up to its step") {
  const LogCapture log;
  const TemporaryFolder folder;
  const std::string path = folder.file("log.csv");
  write_bytes(path, "step,loss,eval_loss\n10,3.0,\n10,,2.0\n20,1.0,\n30,9");
  ReportedRun run({std::make_shared<CsvReporter>(path)});
  run.begin(10);
  run.log_at(20, R"({"loss": 1.25, "grad_norm": 0.5})");
  CHECK(read_bytes(path) == "step,loss,eval_loss,grad_norm\n10,3.0,,\n10,,2.0,\n20,1.25,,0.5\n");
  std::filesystem::remove(path);
  run.state.log_history = {row(R"({"loss": 3.5, "step": 10})")};
  run.begin(10);
  CHECK(read_bytes(path) == "step,loss\n10,3.5\n");
  run.begin(0);
  CHECK(read_bytes(path) == "step\n");
  write_bytes(path, "a,b\n1,2\n");
  CHECK(contains_text(error_of([&] { run.begin(10); }), "no column step"));
}

TEST_CASE("keys are grouped for TensorBoard") {
  CHECK(grouped_key("eval_loss") == "eval/loss");
  CHECK(grouped_key("test_accuracy") == "test/accuracy");
  CHECK(grouped_key("loss") == "train/loss");
  CHECK(grouped_key("train_runtime") == "train/train_runtime");
}

TEST_CASE("tensorboard: events with right frames, checksums and fields") {
  CHECK(slow_crc32c("123456789") == 0xE3069283u);  // the check value of CRC-32C
  const TemporaryFolder folder;
  const auto seconds = [] {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  const double before = seconds();
  ReportedRun run({std::make_shared<TensorBoardReporter>(folder.file("runs/a"))});
  run.args.learning_rate = 0.125;
  run.begin();
  run.log_at(300, R"({"loss": 2.5, "note": "text", "learning_rate": 5e-05, "bad": null})");
  run.log_at(300, R"({"eval_loss": 0.1})");

  const std::vector<std::string> files = files_below(folder.path());
  REQUIRE(files.size() == 1);
  CHECK(contains_text(files[0], "/runs/a/events.out.tfevents."));
  CHECK(files[0].ends_with("." + std::to_string(::getpid())));
  const std::vector<ReadEvent> events = read_events(read_bytes(files[0]));
  REQUIRE(events.size() == 4);
  for (const ReadEvent& event : events) {
    CHECK(event.wall_time >= before);
    CHECK(event.wall_time <= seconds());
  }
  CHECK(events[0].file_version == "brain.Event:2");
  CHECK(events[0].scalars.empty());
  REQUIRE(events[1].texts.count("args/text_summary"));
  CHECK(Json::parse(events[1].texts.at("args/text_summary"), "args")
            .at("learning_rate")
            .as_double() == 0.125);
  CHECK(events[2].step == 300);
  REQUIRE(events[2].scalars.size() == 3);
  CHECK(events[2].scalars.at("train/loss") == 2.5f);
  CHECK(events[2].scalars.at("train/learning_rate") == 5e-05f);
  CHECK(std::isnan(events[2].scalars.at("train/bad")));
  CHECK(events[3].scalars == std::map<std::string, float>{{"eval/loss", 0.1f}});
}

TEST_CASE(
    "tensorboard: a resumed run has a file of its own that hides later steps of the old one") {
  const TemporaryFolder folder;
  for (const int64_t step : {0, 20}) {
    ReportedRun run({std::make_shared<TensorBoardReporter>(folder.path().string())});
    run.begin(step);
    run.log_at(30, R"({"loss": 2.5})");
  }
  std::vector<std::string> files = files_below(folder.path());
  REQUIRE(files.size() == 2);
  // Within the same second the second one has ".1" behind its name, and sorts later in any case.
  const std::vector<ReadEvent> first = read_events(read_bytes(files[0]));
  const std::vector<ReadEvent> second = read_events(read_bytes(files[1]));
  REQUIRE(first.size() == 3);
  REQUIRE(second.size() == 4);
  CHECK_FALSE(first[1].session_status);
  CHECK(second[1].session_status == 1);  // SessionLog.START
  CHECK(second[1].step == 21);
}

TEST_CASE("only the first process reports") {
  const TemporaryFolder folder;
  ReportedRun run(make_reporters(
      [] {
        TrainingArguments args;
        args.report_to = {"all"};
        return args;
      }(),
      folder.path().string()));
  run.state.is_world_process_zero = false;
  run.begin();
  run.log_at(1, R"({"loss": 2.5})");
  run.fire(&TrainerCallback::on_train_end);
  CHECK(folder.file_count() == 0);
}

TEST_CASE("reporters by name, and where they write") {
  const TemporaryFolder folder;
  TrainingArguments args;
  const auto made = [&](std::vector<std::string> names) {
    args.report_to = std::move(names);
    return make_reporters(args, folder.path().string());
  };
  CHECK(made({"none"}).empty());
  CHECK(made({}).empty());
  CHECK(names_of(made({"csv", "jsonl", "csv"})) ==
        std::vector<std::string>{"JsonlReporter", "CsvReporter"});
  CHECK(contains_text(error_of([&] { made({"wandb"}); }),
                      "got \"wandb\"; choose from jsonl, csv, tensorboard, html, all, none"));
  CHECK(contains_text(error_of([&] { made({"none", "csv"}); }), "stands alone"));

  const auto all = made({"all"});
  CHECK(names_of(all) == std::vector<std::string>{"JsonlReporter", "CsvReporter",
                                                  "TensorBoardReporter", "HtmlReporter"});
  CHECK(folder.file_count() == 0);
  ReportedRun run(all);
  run.begin();
  run.log_at(1, R"({"loss": 2.5})");
  run.fire(&TrainerCallback::on_train_end);
  for (const char* name : {"log.jsonl", "log.csv", "report.html"})
    CHECK(std::filesystem::exists(folder.file(name)));
  CHECK(files_below(folder.file("runs")).size() == 1);

  args.logging_dir = folder.file("elsewhere");
  ReportedRun second(made({"tensorboard"}));
  second.begin();
  CHECK(files_below(folder.file("elsewhere")).size() == 1);
}

// By hand, against TensorBoard's own reader: set TENDRIL_SAVE_FOLDER, run with --no-skip
// -tc="*for TensorBoard*", then python3 tests/golden/check_reporters.py $TENDRIL_SAVE_FOLDER
TEST_CASE("a resumed run for TensorBoard's own reader" * doctest::skip()) {
  const char* folder = std::getenv("TENDRIL_SAVE_FOLDER");
  REQUIRE(folder != nullptr);
  TrainingArguments args;
  args.report_to = {"all"};
  args.logging_dir = std::string(folder) + "/events";
  for (const int64_t start : {0, 60}) {  // the second one resumes before the end of the first
    ReportedRun run(make_reporters(args, folder));
    run.begin(start);
    for (int64_t step = start + 1; step <= start + 90; ++step) {
      const auto t = static_cast<double>(step);
      run.state.global_step = step;
      Json logs = Json::object()
                      .set("loss", json_number(4 / std::sqrt(t) + 0.01 * std::sin(t + start)))
                      .set("grad_norm", json_number(1 + std::cos(t)))
                      .set("learning_rate", json_number(1e-4 * (1 - t / 150)))
                      .set("epoch", json_number(t / 50));
      if (step % 10 == 0)
        logs = Json::object()
                   .set("eval_loss", json_number(4.2 / std::sqrt(t)))
                   .set("eval_accuracy", json_number(1 - 1 / std::sqrt(t)));
      run.log(logs);
    }
    run.fire(&TrainerCallback::on_train_end);
  }
  CHECK(std::filesystem::exists(std::string(folder) + "/log.jsonl"));
}

TEST_SUITE_END();
