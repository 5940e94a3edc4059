// Private to dist: a rank's connection to the table of store_server.h.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>

#include <tendril/dist/store/socket.h>
#include <tendril/dist/store/store_frame.h>

namespace tendril::dist {

struct StoreAddress {
  std::string host;
  int port = 0;
  std::string token = {};
};

/// Calls may come from any thread and are answered one after the other. Every call is a
/// ConnectionLost when the store is gone.
class TENDRIL_API Store {
 public:
  using Milliseconds = std::chrono::milliseconds;
  struct Found {
    std::string value;
    Milliseconds age;  // since it was set
  };

  /// Tries to connect until the deadline. `patience`: how long the store may take for an answer.
  Store(const StoreAddress& address, Clock::time_point deadline,
        Milliseconds patience = Milliseconds(60'000));

  void set(const std::string& key, const std::string& value);
  /// Unless the key has a value.
  void set_once(const std::string& key, const std::string& value);
  /// Waits until the key has a value; none after `wait`, or after interrupt().
  std::optional<Found> get(const std::string& key, Milliseconds wait);
  /// Adds to a counter, which starts at 0; returns the sum.
  int64_t add(const std::string& key, int64_t increment);
  /// What is set, unless the key has a value, when this connection ends for whatever reason. An
  /// empty value takes the will back.
  void will(const std::string& key, const std::string& value);
  /// Ends the get() that waits, or the next one.
  void interrupt() { pipe_.wake(); }

 private:
  Frame ask(const Frame& request, Milliseconds wait = Milliseconds(0));
  std::optional<Frame> next_reply(Clock::time_point deadline, const Descriptor& wake);

  std::mutex mutex_;
  Descriptor socket_;
  Milliseconds patience_;
  WakePipe pipe_;
  std::string in_;
  int unanswered_ = 0;  // requests whose reply nobody waits for
};

}  // namespace tendril::dist
