// Private to dist: the table that the ranks of a job share, kept by rank 0. For finding each other
// and for news of failures; never for data.
//
// One thread serves all clients. What does not speak the protocol is disconnected, as is who gives
// the wrong token; nothing that is sent makes the server fail or take more than a bounded amount
// of memory.
#pragma once

#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <tendril/dist/store/socket.h>
#include <tendril/dist/store/store_frame.h>

namespace tendril::dist {

class TENDRIL_API StoreServer {
 public:
  /// Serves at the port (0: any free one) clients that know the token. listen_at() says what
  /// `host` means.
  StoreServer(const std::string& host, int port, std::string token = "");
  /// Tells the clients that it ends in good order.
  ~StoreServer();
  StoreServer(const StoreServer&) = delete;
  StoreServer& operator=(const StoreServer&) = delete;

  int port() const { return port_; }
  /// Waits until no client is connected, at most to the deadline.
  void wait_until_alone(Clock::time_point deadline);

 private:
  struct Value {
    std::string text;
    Clock::time_point since;
  };
  struct Client {
    explicit Client(Descriptor connection) : socket(std::move(connection)) {}
    Descriptor socket;
    std::string in, out;
    bool is_greeted = false, is_lost = false;
    Frame will;
    bool waits = false;  // for `wanted`, until the deadline
    std::string wanted;
    Clock::time_point deadline = Clock::now() + kTimeToGreet;
  };

  static constexpr std::chrono::seconds kTimeToGreet{10};

  void run();
  void poll_once();
  void accept_clients();
  void read_from(Client& client);
  void handle(Client& client, const Frame& frame);
  void handle_get(Client& client, const Frame& frame);
  void greet(Client& client, const Frame& frame);
  void reply(Client& client, uint8_t kind, int64_t number = 0, std::string value = "");
  void write_to(Client& client);
  void end_waits();
  void store(const std::string& key, const std::string& text);
  void drop_lost_clients();
  void say_goodbye();

  const std::string token_;
  Descriptor listener_;
  const int port_;
  WakePipe pipe_;
  Clock::time_point accept_again_{};  // after there were no descriptors left
  std::map<std::string, Value> values_;
  size_t stored_bytes_ = 0;
  std::list<Client> clients_;

  std::mutex mutex_;  // of what follows; all else belongs to the thread
  std::condition_variable changed_;
  size_t client_count_ = 0;
  bool ending_ = false;
  std::thread thread_;  // last, so that all else is there when it starts
};

}  // namespace tendril::dist
