// Private to dist: TCP connections for control messages, and nothing else: data travels with MPI
// or NCCL. Every wait has an end, signals interrupt nothing, and a broken connection is an Error,
// never SIGPIPE.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include <tendril/core/error.h>

namespace tendril::dist {

using Clock = std::chrono::steady_clock;

/// The other side has closed the connection, or cannot be reached any more.
class TENDRIL_API ConnectionLost : public Error {
 public:
  explicit ConnectionLost(const std::string& message, bool is_orderly = false)
      : Error(message), is_orderly_(is_orderly) {}
  ~ConnectionLost() override;
  /// Whether the other side said that it would go.
  bool is_orderly() const { return is_orderly_; }

 private:
  bool is_orderly_;
};

/// A file descriptor that closes itself.
class TENDRIL_API Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  int get() const { return number_; }
  bool is_open() const { return number_ >= 0; }

 private:
  int number_;
};

/// Of this machine; empty when it has none, or none that is UTF-8.
std::string host_name();

/// Listens at the port (0: any free one). On the loopback interface alone when `host` names it,
/// on all interfaces otherwise: what a name stands for may differ between machines.
Descriptor listen_at(const std::string& host, int port);
int port_of(const Descriptor& socket);
/// A new connection, or none when nobody waits to be accepted. Does not block.
Descriptor accept_from(const Descriptor& listener);

/// Tries all addresses of `host` again and again until one answers; Error at the deadline.
TENDRIL_API Descriptor connect_to(const std::string& host, int port, Clock::time_point deadline);

/// All bytes; ConnectionLost when the other side is gone, Error at the deadline.
TENDRIL_API void send_all(const Descriptor& socket, std::span<const char> bytes,
                          Clock::time_point deadline);
/// Between one and bytes.size() bytes. 0 at the deadline, or when `wake` (if open) can be read.
TENDRIL_API size_t receive_some(const Descriptor& socket, std::span<char> bytes,
                                Clock::time_point deadline, const Descriptor& wake);

/// Two ends of a pipe to end a wait with; neither blocks.
struct TENDRIL_API WakePipe {
  WakePipe();
  void wake() const;
  void drain() const;
  Descriptor read_end, write_end;
};

/// Milliseconds for poll(), rounded up.
int poll_milliseconds(Clock::time_point deadline);

}  // namespace tendril::dist
