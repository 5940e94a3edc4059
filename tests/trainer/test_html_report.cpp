#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include <tendril/core/error.h>
#include <tendril/trainer/callbacks/default_flow.h>
#include <tendril/trainer/callbacks/reporters/html.h>
#include <tendril/trainer/callbacks/reporters/report_page.h>

#include "file_tools.h"
#include "trainer/callback_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// "" when every element is closed in the right order, else where it is not.
std::string unbalanced(const std::string& html) {
  std::vector<std::string> open;
  for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
    const size_t end = html.find('>', at);
    if (end == std::string::npos) return "a tag without end: " + html.substr(at, 40);
    const std::string tag = html.substr(at + 1, end - at - 1);
    if (tag.starts_with("!DOCTYPE") || tag.ends_with("/")) continue;
    if (tag.starts_with("/")) {
      if (open.empty() || open.back() != tag.substr(1)) return "unexpected <" + tag + ">";
      open.pop_back();
    } else {
      open.push_back(tag.substr(0, tag.find_first_of(" \n")));
    }
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

struct ReportRun : HandDriven {
  explicit ReportRun(const std::string& path) : path(path) {
    state.max_steps = 100;
    handler.add(std::make_shared<DefaultFlowCallback>());
    handler.add(std::make_shared<HtmlReporter>(path));
  }
  void begin(int64_t step = 0) {
    state.global_step = step;
    fire(&TrainerCallback::on_train_begin);
  }
  void log_at(int64_t step, const std::string& text) {
    state.global_step = step;
    log(row(text));
  }
  std::string end() {
    fire(&TrainerCallback::on_train_end);
    return read_bytes(path);
  }
  std::string path;
};

}  // namespace

TEST_SUITE_BEGIN("html_report");

TEST_CASE("a report is one well-formed page with every point, and fetches nothing") {
  const TemporaryFolder folder;
  ReportRun run(folder.file("new/report.html"));
  run.args.run_name = "A <bold> & \"quoted\" name";
  run.args.output_dir = "out/a<b";
  run.begin();
  run.log_at(10, R"({"loss": 2.5, "grad_norm": 0.75, "learning_rate": 5e-05, "epoch": 0.5})");
  run.log_at(20, R"({"loss": 1.25, "grad_norm": null, "learning_rate": 4e-05, "epoch": 1.0})");
  run.log_at(20, R"({"eval_loss": 1.5, "eval_accuracy": 0.625, "eval_runtime": 0.0,
                     "eval_samples_per_second": 7.0, "eval_mem_cpu_alloc_delta": 4096, "epoch": 1.0})");
  run.log_at(20, R"({"train_runtime": 3.5, "train_loss": 1.875, "train_tokens_per_second": 99.5})");
  const std::string html = run.end();
  CHECK(unbalanced(html) == "");
  CHECK_FALSE(contains_text(html, "http"));
  CHECK_FALSE(contains_text(html, "src="));
  CHECK_FALSE(contains_text(html, "<bold>"));
  CHECK(contains_text(html, "<h1>A &lt;bold&gt; &amp; &quot;quoted&quot; name</h1>"));
  CHECK(contains_text(html, "out/a&lt;b"));
  CHECK(contains_text(html, "prefers-color-scheme: dark"));
  for (const char* point :
       {"loss, step 10: 2.5<", "loss, step 20: 1.25<", "eval_loss, step 20: 1.5<",
        "eval_accuracy, step 20: 0.625<", "learning_rate, step 20: 4e-05<",
        "grad_norm, step 10: 0.75<", "eval_mem_cpu_alloc_delta, step 20: 4096<",
        "train_tokens_per_second, step 20: 99.5<"}) {
    CAPTURE(std::string(point));
    CHECK(contains_text(html, point));
  }
  for (const char* title :
       {"Loss", "eval_accuracy", "Learning rate", "Gradient norm", "Throughput (tokens per second)",
        "Throughput (steps per second)", "Memory (bytes)"})
    CHECK(count_of(html, "<figcaption>" + std::string(title) + "</figcaption>") == 1);
  CHECK(count_of(html, "<figure>") == 7);  // counters and times are no curves
  CHECK_FALSE(contains_text(html, "location.reload"));
  CHECK(contains_text(html, "step 20 of 100"));
}

TEST_CASE("a page reloads itself while the run goes on, and is not rewritten at every row") {
  const TemporaryFolder folder;
  ReportRun run(folder.file("report.html"));
  run.begin();
  const std::string empty = read_bytes(run.path);
  CHECK(unbalanced(empty) == "");
  CHECK(contains_text(empty, "Nothing has been logged yet"));
  CHECK(contains_text(empty, "location.reload"));
  for (int step = 1; step < 50; ++step) run.log_at(step, R"({"loss": 2.5})");
  CHECK(read_bytes(run.path) == empty);  // five seconds have not gone by
  CHECK(contains_text(run.end(), "step 49: 2.5<"));
  // After the end each row is written: the program evaluates.
  run.log_at(50, R"({"eval_loss": 0.375})");
  CHECK(contains_text(read_bytes(run.path), "step 50: 0.375<"));
}

TEST_CASE("a resumed report begins with the checkpoint's rows") {
  const TemporaryFolder folder;
  ReportRun run(folder.file("report.html"));
  run.state.log_history = {row(R"({"loss": 3.5, "step": 10})"),
                           row(R"({"loss": 3.25, "step": 20})")};
  run.begin(20);
  run.log_at(30, R"({"loss": 1.5})");
  const std::string html = run.end();
  for (const char* point : {"step 10: 3.5<", "step 20: 3.25<", "step 30: 1.5<"})
    CHECK(count_of(html, point) == 1);
  run.begin();  // a new run forgets them
  CHECK_FALSE(contains_text(run.end(), "step 10: 3.5<"));
}

TEST_CASE("long runs are thinned out, but keep their extremes") {
  std::vector<PlotPoint> points;
  for (int i = 0; i < 100000; ++i) points.push_back({double(i), i % 7 * 0.125});
  points[54321].value = 50.0;
  points[777].value = -50.0;
  const std::vector<PlotPoint> thin = decimated(points, 400);
  CHECK(thin.size() <= 400);
  CHECK(thin.size() > 300);
  const auto has = [&](double step, double value) {
    return std::any_of(thin.begin(), thin.end(), [&](const PlotPoint& point) {
      return point.step == step && point.value == value;
    });
  };
  CHECK(has(54321, 50.0));
  CHECK(has(777, -50.0));
  CHECK(std::is_sorted(thin.begin(), thin.end(),
                       [](const auto& a, const auto& b) { return a.step < b.step; }));
  CHECK(decimated({points.begin(), points.begin() + 400}, 400).size() == 400);

  const std::string svg = svg_plot({"long", {{"loss", points}}});
  CHECK(svg.size() < 100000);
  CHECK(contains_text(svg, "step 54321: 50<"));
}

TEST_CASE("points lie where their values are") {
  // The field of the axes is x 64 to 628, y 228 (low) to 12 (high), with 5 % of air above and
  // below.
  const std::string svg = svg_plot({"p", {{"loss", {{0, 0.0}, {50, 0.5}, {100, 1.0}}}}});
  CHECK(contains_text(svg, "d=\"M64.0 218.2L346.0 120.0L628.0 21.8\""));
  for (const char* label : {">0.2</text>", ">0.4</text>", ">0.6</text>", ">0.8</text>", ">1</text>",
                            ">40</text>", ">100</text>"}) {
    CAPTURE(std::string(label));
    CHECK(contains_text(svg, label));
  }
}

TEST_CASE("plots of one point or one value are drawn") {
  for (const std::vector<PlotPoint>& points : {std::vector<PlotPoint>{{5, 1.5}},
                                               {{5, 0.0}},
                                               {{5, 2.0}, {6, 2.0}},
                                               {{0, -1.7e308}, {1, 1.7e308}}}) {
    const std::string svg = svg_plot({"p", {{"x", points}}});
    CHECK(unbalanced(svg) == "");
    CHECK(count_of(svg, "<circle") == points.size());
    CHECK_FALSE(contains_text(svg, "nan"));
    CHECK_FALSE(contains_text(svg, "inf"));
  }
}

TEST_SUITE_END();
