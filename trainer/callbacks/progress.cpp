#include <tendril/trainer/callbacks/progress.h>

#include <sys/ioctl.h>
#include <unistd.h>

#include <tendril/trainer/callbacks/log_row.h>

namespace tendril {
namespace {

constexpr auto kRedrawInterval = std::chrono::milliseconds(100);
constexpr const char* kEraseLine = "\r\x1b[K";

bool wants_bar(std::FILE* sink, ProgressStyle style) {
  if (style != ProgressStyle::automatic) return style == ProgressStyle::bar;
  return ::isatty(::fileno(sink)) == 1;
}

void take_number(const Json& row, const char* key, std::optional<double>& number) {
  const Json* value = row.find(key);
  if (value && value->is_number()) number = value->as_double();
}

}  // namespace

ProgressCallback::ProgressCallback(std::FILE* sink, ProgressStyle style, int64_t max_str_len)
    : sink_(sink), terminal_(wants_bar(sink, style)), max_str_len_(max_str_len) {}

ProgressCallback::~ProgressCallback() {
  if (line_open_) std::fputs("\n", sink_);
}

void ProgressCallback::on_train_begin(CallbackContext& context) {
  training_ = true;
  began_ = Clock::now();
  bar_ = ProgressBar{.first_step = context.state.global_step};
  first_tokens_ = context.state.num_input_tokens_seen;
  if (!shows_bar(context)) return;
  update(context.state);
  draw();
}

void ProgressCallback::on_step_end(CallbackContext& context) {
  if (!shows_bar(context) || !is_due()) return;
  update(context.state);
  draw();
}

void ProgressCallback::on_prediction_step(CallbackContext& context) {
  ++prediction_steps_done_;
  // Without a length there is nothing to be ahead of.
  if (!shows_bar(context) || !context.prediction_steps || !is_due()) return;
  const std::string text = "predicting " + std::to_string(prediction_steps_done_) + "/" +
                           std::to_string(*context.prediction_steps);
  write(kEraseLine + text.substr(0, static_cast<size_t>(line_width())));
  line_open_ = true;
  last_drawn_ = Clock::now();
}

void ProgressCallback::on_evaluate(CallbackContext& context) { end_of_predictions(context); }
void ProgressCallback::on_predict(CallbackContext& context) { end_of_predictions(context); }

void ProgressCallback::end_of_predictions(const CallbackContext& context) {
  prediction_steps_done_ = 0;
  if (!shows_bar(context)) return;
  if (training_) return draw();
  if (line_open_) write(kEraseLine);
  line_open_ = false;
}

void ProgressCallback::on_log(CallbackContext& context) {
  if (!context.logs || !context.state.is_world_process_zero) return;
  const std::string line = log_row_text(*context.logs, context.state.global_step,
                                        context.state.max_steps, max_str_len_) +
                           "\n";
  if (!terminal_) return write(line);
  write((line_open_ ? kEraseLine : "") + line);
  line_open_ = false;
  take_number(*context.logs, "loss", bar_.loss);
  take_number(*context.logs, "learning_rate", bar_.learning_rate);
  if (!training_) return;
  update(context.state);
  draw();
}

void ProgressCallback::on_train_end(CallbackContext& context) {
  if (shows_bar(context)) {
    update(context.state);
    draw();
    write("\n");
    line_open_ = false;
  }
  training_ = false;
}

bool ProgressCallback::shows_bar(const CallbackContext& context) const {
  return terminal_ && context.state.is_world_process_zero;
}

bool ProgressCallback::is_due() const { return Clock::now() - last_drawn_ >= kRedrawInterval; }

void ProgressCallback::update(const TrainerState& state) {
  bar_.step = state.global_step;
  bar_.max_steps = state.max_steps;
  bar_.seconds = std::chrono::duration<double>(Clock::now() - began_).count();
  if (state.num_input_tokens_seen > first_tokens_)
    bar_.tokens = state.num_input_tokens_seen - first_tokens_;
}

void ProgressCallback::draw() {
  write(kEraseLine + progress_bar_text(bar_, line_width()));
  line_open_ = true;
  last_drawn_ = Clock::now();
}

// Flushed, since a terminal's stream may wait for the end of a line.
void ProgressCallback::write(const std::string& text) {
  std::fputs(text.c_str(), sink_);
  std::fflush(sink_);
}

// One column is left free: some terminals break the line when the last one is filled.
int64_t ProgressCallback::line_width() const {
  winsize size{};
  const bool known = ::ioctl(::fileno(sink_), TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return known ? size.ws_col - 1 : 79;
}

}  // namespace tendril
