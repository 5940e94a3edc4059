#include <tendril/trainer/callbacks/printer.h>

#include <tendril/trainer/callbacks/log_row.h>

namespace tendril {

void PrinterCallback::on_log(CallbackContext& context) {
  if (!context.logs || !context.state.is_local_process_zero) return;
  const std::string line = log_row_text(*context.logs, context.state.global_step,
                                        context.state.max_steps, max_str_len_) +
                           "\n";
  std::fputs(line.c_str(), sink_);
  std::fflush(sink_);
}

}  // namespace tendril
