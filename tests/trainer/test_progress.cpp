#include <doctest/doctest.h>

#include <cstdio>

#include <tendril/trainer/callbacks/default_flow.h>
#include <tendril/trainer/callbacks/log_row.h>
#include <tendril/trainer/callbacks/printer.h>
#include <tendril/trainer/callbacks/progress.h>

#include "test_tools.h"
#include "trainer/callback_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// Everything a stream got.
class MemorySink {
 public:
  MemorySink() : file_(std::tmpfile()) { REQUIRE(file_); }
  ~MemorySink() { std::fclose(file_); }
  std::FILE* file() const { return file_; }
  std::string text() const {
    std::fflush(file_);
    std::rewind(file_);
    std::string result;
    for (int c = std::fgetc(file_); c != EOF; c = std::fgetc(file_)) result += static_cast<char>(c);
    return result;
  }

 private:
  std::FILE* file_;
};

int64_t count_of(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_SUITE_BEGIN("progress");

TEST_CASE("rows as text: order kept, numbers short, long texts cut between characters") {
  const Json logs = row(
      R"({"loss": 1.23449999, "learning_rate": 5e-05, "note": "abc\u00e9\nfg", "epoch": 1.0, "tokens": 123456789, "bad": null, "step": 3, "total_flos": 1e18})");
  CHECK(log_row_text(logs, 500, 2000) ==
        "step 500/2000  loss 1.2345  learning_rate 5e-05  note abc\xC3\xA9 fg  epoch 1  "
        "tokens 123456789  bad nan");
  CHECK(log_row_text(row(R"({"note": "abc\u00e9\nfg"})"), 1, 0, 4) == "step 1  note abc...");
  CHECK(log_row_text(row(R"({"note": "abc\u00e9\nfg"})"), 1, 0, 5) ==
        "step 1  note abc\xC3\xA9...");
}

TEST_CASE("printer writes rows to its sink and leaves them as they are") {
  const MemorySink sink;
  HandDriven run;
  run.state.global_step = 5;
  run.state.max_steps = 10;
  run.handler.add(std::make_shared<PrinterCallback>(sink.file()));
  struct SeesFlos : TrainerCallback {
    bool seen = false;
    void on_log(CallbackContext& c) override { seen = c.logs->find("total_flos") != nullptr; }
  };
  const auto later = std::make_shared<SeesFlos>();
  run.handler.add(later);
  run.log(row(R"({"train_loss": 0.5, "total_flos": 12.0})"));
  CHECK(later->seen);
  CHECK(sink.text() == "step 5/10  train_loss 0.5\n");
  run.state.is_local_process_zero = false;
  run.log(row(R"({"train_loss": 0.25})"));
  CHECK(sink.text() == "step 5/10  train_loss 0.5\n");
}

TEST_CASE("progress is plain lines where there is no terminal") {
  const MemorySink sink;
  HandDriven run;
  run.state.max_steps = 2;
  run.handler.add(std::make_shared<DefaultFlowCallback>());
  run.handler.add(std::make_shared<ProgressCallback>(sink.file()));
  run.fire(&TrainerCallback::on_train_begin);
  run.state.global_step = 1;
  run.fire(&TrainerCallback::on_step_end);
  run.log(row(R"({"loss": 2.5, "text": "0123456789"})"));
  run.fire(&TrainerCallback::on_train_end);
  CHECK(sink.text() == "step 1/2  loss 2.5  text 0123456789\n");
}

TEST_CASE("progress draws a bar seldom, at once at a row, and ends its line") {
  const MemorySink sink;
  HandDriven run;
  run.state.max_steps = 100;
  run.handler.add(std::make_shared<DefaultFlowCallback>());
  run.handler.add(std::make_shared<ProgressCallback>(sink.file(), ProgressStyle::bar));
  run.fire(&TrainerCallback::on_train_begin);
  for (run.state.global_step = 1; run.state.global_step < 50; ++run.state.global_step)
    run.fire(&TrainerCallback::on_step_end);
  run.log(row(R"({"loss": 2.5, "learning_rate": 0.001})"));
  run.state.global_step = 100;
  run.fire(&TrainerCallback::on_train_end);
  const std::string text = sink.text();
  CAPTURE(text);
  CHECK(contains(text, "\r\x1b[K0/100 [....................] 0%"));
  CHECK(contains(text, "\r\x1b[Kstep 50/100  loss 2.5  learning_rate 0.001\n"));
  CHECK(contains(text, "50/100 [##########..........] 50%  loss 2.5  lr 0.001  "));
  CHECK(contains(text, "100/100 [####################] 100%"));
  CHECK(text.back() == '\n');
  // Three are due; a few more where this machine takes its time.
  CHECK(count_of(text, "/100 [") < 20);
}

TEST_CASE("progress is silent on other processes, and shows predictions") {
  const MemorySink sink;
  ProgressCallback progress(sink.file(), ProgressStyle::bar);
  HandDriven run;
  run.state.is_world_process_zero = false;
  CallbackContext c = run.context();
  c.prediction_steps = 3;
  progress.on_train_begin(c);
  progress.on_step_end(c);
  progress.on_prediction_step(c);
  progress.on_evaluate(c);
  progress.on_train_end(c);
  CHECK(sink.text().empty());
  run.state.is_world_process_zero = true;
  progress.on_prediction_step(c);
  progress.on_evaluate(c);
  CHECK(sink.text() == "\r\x1b[Kpredicting 1/3\r\x1b[K");
}

TEST_CASE("progress bar: speed and time left are those of the session") {
  ProgressBar bar{.step = 300, .max_steps = 1000, .first_step = 200, .seconds = 50.0, .loss = 1.5};
  CHECK(progress_bar_text(bar, 200) ==
        "300/1000 [######..............] 30%  loss 1.5  2 steps/s  ETA 5:50");
  bar.tokens = 1000000;
  CHECK(progress_bar_text(bar, 200) ==
        "300/1000 [######..............] 30%  loss 1.5  20000 tokens/s  ETA 5:50");
  CHECK(progress_bar_text(bar, 50) == "300/1000 [######..............] 30%  loss 1.5");
  CHECK(progress_bar_text(bar, 10) == "300/1000 [");
  CHECK(duration_text(75) == "1:15");
  CHECK(duration_text(3675.4) == "1:01:15");
}

TEST_SUITE_END();
