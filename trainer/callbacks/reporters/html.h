// report.html: a run on one page that any browser opens.
#pragma once

#include <chrono>

#include <tendril/trainer/callbacks/reporters/report_plots.h>
#include <tendril/trainer/callbacks/reporters/reporter.h>

namespace tendril {

/// Curves, latest numbers and all arguments in one file that needs no other and no network, light
/// or dark as the reader's system is. It is replaced in one stroke, at most every few seconds while
/// training and at the end; an open page reloads itself meanwhile. Rows from before a resume are
/// those of the checkpoint's log_history.
class TENDRIL_API HtmlReporter : public Reporter {
 public:
  explicit HtmlReporter(std::string path) : path_(std::move(path)) {}

 protected:
  void begin(const CallbackContext& context) override;
  void write_row(const CallbackContext& context, const Json& row) override;
  void end(const CallbackContext& context) override;

 private:
  using Clock = std::chrono::steady_clock;

  void take_row(const Json& row);
  void take_point(const std::string& key, double step, double value);
  void measure_speed(const Json& row);
  void write(const CallbackContext& context);

  std::string path_;
  std::vector<PlotSeries> logged_;  // one per key, in the order in which they appeared
  Json latest_ = Json::object();    // the last value of each key
  bool running_ = false;
  Clock::time_point last_written_;
  // For the speed: where the last training row was, when, and how long evaluations took since.
  double speed_step_ = 0.0, evaluation_seconds_ = 0.0;
  Clock::time_point speed_time_;
};

}  // namespace tendril
