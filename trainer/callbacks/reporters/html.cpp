#include <tendril/trainer/callbacks/reporters/html.h>

#include <algorithm>
#include <filesystem>

#include <tendril/core/file.h>
#include <tendril/trainer/callbacks/log_row.h>
#include <tendril/trainer/callbacks/reporters/append_file.h>
#include <tendril/trainer/callbacks/reporters/report_page.h>
#include <tendril/trainer/callbacks/reporters/run_folder.h>

namespace tendril {
namespace {

constexpr auto kRefreshInterval = std::chrono::seconds(5);

}  // namespace

void HtmlReporter::begin(const CallbackContext& context) {
  logged_.clear();
  latest_ = Json::object();
  running_ = true;
  const TrainerState& state = context.state;
  if (state.global_step > 0)
    for (const Json& row : state.log_history) take_row(row);
  speed_step_ = static_cast<double>(state.global_step);
  speed_time_ = Clock::now();
  evaluation_seconds_ = 0.0;
  write(context);
}

void HtmlReporter::write_row(const CallbackContext& context, const Json& row) {
  take_row(row);
  if (running_) measure_speed(row);
  if (!running_ || Clock::now() - last_written_ >= kRefreshInterval) write(context);
}

void HtmlReporter::end(const CallbackContext& context) {
  running_ = false;
  write(context);
}

void HtmlReporter::take_row(const Json& row) {
  const Json* step = row.find("step");
  if (!step || !step->is_number()) return;
  for (const auto& [key, value] : row.members()) {
    latest_.set(key, value);
    if (value.is_number()) take_point(key, step->as_double(), value.as_double());
  }
}

void HtmlReporter::take_point(const std::string& key, double step, double value) {
  auto place = std::find_if(logged_.begin(), logged_.end(),
                            [&](const PlotSeries& known) { return known.name == key; });
  if (place == logged_.end()) place = logged_.insert(place, {key, {}});
  place->points.push_back({step, value});
}

// Steps between two training rows by the time between them, evaluations left out.
void HtmlReporter::measure_speed(const Json& row) {
  const Json* runtime = row.find("eval_runtime");
  if (runtime && runtime->is_number()) evaluation_seconds_ += runtime->as_double();
  if (!row.find("loss")) return;
  const double step = row.at("step").as_double();
  const Clock::time_point now = Clock::now();
  const double seconds =
      std::chrono::duration<double>(now - speed_time_).count() - evaluation_seconds_;
  if (step > speed_step_ && seconds > 0.0)
    take_point(kStepsPerSecond, step, (step - speed_step_) / seconds);
  speed_step_ = step;
  speed_time_ = now;
  evaluation_seconds_ = 0.0;
}

void HtmlReporter::write(const CallbackContext& context) {
  const TrainerState& state = context.state;
  ReportPage page;
  page.title = context.args.run_name.value_or("Training");
  page.running = running_;
  page.status = (running_ ? "running, " : "") + std::string("step ") +
                std::to_string(state.global_step) + " of " + std::to_string(state.max_steps);
  if (state.epoch) page.status += ", epoch " + short_number(*state.epoch);
  page.status += "; written " + local_time_text(' ', ':') + " on " + host_name();
  page.plots = report_plots(logged_);
  page.latest = latest_;
  page.arguments = context.args.to_json();
  make_folders(std::filesystem::path(path_).parent_path().string());
  write_text_file(path_, report_page_html(page));
  last_written_ = Clock::now();
}

}  // namespace tendril
