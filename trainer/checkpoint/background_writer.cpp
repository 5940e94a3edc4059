#include <tendril/trainer/checkpoint/background_writer.h>

#include <exception>
#include <system_error>

#include <tendril/core/error.h>
#include <tendril/core/log.h>
#include <tendril/core/threads.h>

namespace tendril {

BackgroundWriter::~BackgroundWriter() {
  try {
    wait();
  } catch (const std::exception& error) {
    log_message(LogLevel::error, "[background_writer] a job failed: ", error.what());
  } catch (...) {
    log_message(LogLevel::error, "[background_writer] a job failed");
  }
}

void BackgroundWriter::submit(std::function<void()> job) {
  TENDRIL_CHECK(job, "[background_writer] the job is empty");
  wait();
  try {
    running_ = std::async(std::launch::async, [job = std::move(job)] {
      const SerialScope serial;
      job();
    });
  } catch (const std::system_error& error) {
    fail("[background_writer] cannot start a thread: ", error.what());
  }
}

void BackgroundWriter::wait() {
  if (running_.valid()) running_.get();  // leaves it invalid, also when it throws
}

}  // namespace tendril
