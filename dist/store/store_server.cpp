#include <tendril/dist/store/store_server.h>

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

namespace tendril::dist {
namespace {

constexpr size_t kMostStored = size_t{64} << 20;  // bytes of all keys and values
constexpr size_t kEntryBytes = 128;               // what an entry takes beside them
constexpr size_t kMostUnread = size_t{4} << 20;   // replies that a client does not fetch
constexpr size_t kLargestGreeting = 4096;

int64_t milliseconds_since(Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - time).count();
}

// How long a client wants to wait, without overflow whatever it sent.
Clock::time_point deadline_after(int64_t milliseconds) {
  constexpr int64_t year = int64_t{366} * 24 * 3600 * 1000;
  return Clock::now() + std::chrono::milliseconds(std::clamp<int64_t>(milliseconds, 0, year));
}

}  // namespace

StoreServer::StoreServer(const std::string& host, int port, std::string token)
    : token_(std::move(token)),
      listener_(listen_at(host, port)),
      port_(port_of(listener_)),
      thread_([this] { run(); }) {}

StoreServer::~StoreServer() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  pipe_.wake();
  thread_.join();
}

void StoreServer::wait_until_alone(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline, [this] { return client_count_ == 0; });
}

void StoreServer::run() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      client_count_ = clients_.size();
      changed_.notify_all();
      if (ending_) break;
    }
    poll_once();
    end_waits();
    drop_lost_clients();
  }
  say_goodbye();
}

void StoreServer::poll_once() {
  const auto now = Clock::now();
  auto deadline = now + std::chrono::minutes(1);
  std::vector<pollfd> watched{{pipe_.read_end.get(), POLLIN, 0}};
  const bool accepts = now >= accept_again_;
  if (!accepts) deadline = std::min(deadline, accept_again_);
  watched.push_back({accepts ? listener_.get() : -1, POLLIN, 0});  // -1: left out
  for (const Client& client : clients_) {
    const short events = static_cast<short>(POLLIN | (client.out.empty() ? 0 : POLLOUT));
    watched.push_back({client.socket.get(), events, 0});
    if (client.waits || !client.is_greeted) deadline = std::min(deadline, client.deadline);
  }
  if (::poll(watched.data(), watched.size(), poll_milliseconds(deadline)) <= 0) return;
  size_t next = 2;
  for (Client& client : clients_) {
    const short events = watched[next++].revents;
    if (events & POLLOUT) write_to(client);
    if (events & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) read_from(client);
  }
  if (watched[1].revents != 0) accept_clients();
}

void StoreServer::accept_clients() {
  Descriptor socket = accept_from(listener_);
  if (!socket.is_open()) accept_again_ = Clock::now() + std::chrono::milliseconds(100);
  for (; socket.is_open(); socket = accept_from(listener_))
    clients_.emplace_back(std::move(socket));
}

void StoreServer::read_from(Client& client) {
  std::array<char, 16384> bytes;
  const ssize_t count = ::recv(client.socket.get(), bytes.data(), bytes.size(), 0);
  if (count < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) return;
  client.is_lost = count <= 0;
  if (client.is_lost) return;
  client.in.append(bytes.data(), static_cast<size_t>(count));
  try {
    while (!client.is_lost) {
      const auto frame =
          take_frame(client.in, client.is_greeted ? Frame::largest : kLargestGreeting);
      if (!frame) return;
      handle(client, *frame);
    }
  } catch (const Error&) {  // not a client of ours
    client.is_lost = true;
  }
}

void StoreServer::greet(Client& client, const Frame& frame) {
  client.is_greeted =
      frame.kind == Frame::hello && frame.key == Frame::protocol && frame.value == token_;
  if (client.is_greeted)
    reply(client, Frame::done);
  else
    client.is_lost = true;
}

void StoreServer::handle(Client& client, const Frame& frame) {
  if (!client.is_greeted) return greet(client, frame);
  if (client.waits) {  // it does not want to wait any longer
    client.waits = false;
    reply(client, Frame::nothing);
  }
  const auto known = values_.find(frame.key);
  const bool is_known = known != values_.end();
  const bool adds = frame.kind == Frame::set || frame.kind == Frame::set_once ||
                    (frame.kind == Frame::add && !is_known);
  if (adds && stored_bytes_ + frame.key.size() + frame.value.size() + kEntryBytes > kMostStored)
    return reply(client, Frame::refused, 0, "the store is full");
  switch (frame.kind) {
    case Frame::get:
      return handle_get(client, frame);
    case Frame::will:
      client.will = frame;
      return reply(client, Frame::done);
    case Frame::set:
    case Frame::set_once:
      if (frame.kind == Frame::set_once && is_known) return reply(client, Frame::done);
      store(frame.key, frame.value);
      return reply(client, Frame::done);
    case Frame::add: {
      int64_t count = 0;
      if (is_known) {
        const std::string& text = known->second.text;
        const auto end = text.data() + text.size();
        if (std::from_chars(text.data(), end, count).ptr != end)
          return reply(client, Frame::refused, 0, "this is no counter");
      }
      // Wraps around: overflow must not be undefined.
      count =
          static_cast<int64_t>(static_cast<uint64_t>(count) + static_cast<uint64_t>(frame.number));
      store(frame.key, std::to_string(count));
      return reply(client, Frame::done, count);
    }
    default:
      client.is_lost = true;
  }
}

void StoreServer::handle_get(Client& client, const Frame& frame) {
  const auto known = values_.find(frame.key);
  if (known != values_.end())
    return reply(client, Frame::done, milliseconds_since(known->second.since), known->second.text);
  if (frame.number <= 0) return reply(client, Frame::nothing);
  client.waits = true;
  client.wanted = frame.key;
  client.deadline = deadline_after(frame.number);
}

void StoreServer::store(const std::string& key, const std::string& text) {
  const auto [entry, is_new] = values_.try_emplace(key);
  stored_bytes_ += (is_new ? key.size() + kEntryBytes : 0) + text.size();
  stored_bytes_ -= entry->second.text.size();
  entry->second = {text, Clock::now()};
  for (Client& client : clients_) {
    if (!client.waits || client.wanted != key) continue;
    client.waits = false;
    reply(client, Frame::done, 0, text);
  }
}

void StoreServer::reply(Client& client, uint8_t kind, int64_t number, std::string value) {
  client.out += encode({kind, number, "", std::move(value)});
  if (client.out.size() > kMostUnread) client.is_lost = true;
  write_to(client);
}

void StoreServer::write_to(Client& client) {
  while (!client.out.empty() && !client.is_lost) {
    const ssize_t sent =
        ::send(client.socket.get(), client.out.data(), client.out.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      client.out.erase(0, static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;  // poll_once() goes on
    } else if (errno != EINTR) {
      client.is_lost = true;
    }
  }
}

void StoreServer::end_waits() {
  const auto now = Clock::now();
  for (Client& client : clients_) {
    if (now < client.deadline) continue;
    if (!client.is_greeted) client.is_lost = true;
    if (!client.waits) continue;
    client.waits = false;
    reply(client, Frame::nothing);
  }
}

// A will that is carried out may show that another client is lost.
void StoreServer::drop_lost_clients() {
  const auto is_lost = [](const Client& client) { return client.is_lost; };
  for (auto lost = std::find_if(clients_.begin(), clients_.end(), is_lost); lost != clients_.end();
       lost = std::find_if(clients_.begin(), clients_.end(), is_lost)) {
    const Frame will = std::move(lost->will);
    clients_.erase(lost);
    if (!will.value.empty() && !values_.contains(will.key)) store(will.key, will.value);
  }
}

// Closing a connection with unread requests would destroy what was sent last: so these are read
// until the client closes its side, for a moment.
void StoreServer::say_goodbye() {
  const auto deadline = Clock::now() + std::chrono::milliseconds(300);
  for (Client& client : clients_) {
    if (!client.is_greeted) continue;
    client.will = {};
    reply(client, Frame::closing);
  }
  std::erase_if(clients_, [](const Client& client) { return !client.is_greeted; });
  while (!clients_.empty() && Clock::now() < deadline) {
    std::vector<pollfd> watched;
    for (Client& client : clients_) {
      if (client.out.empty()) ::shutdown(client.socket.get(), SHUT_WR);
      const short events = static_cast<short>(POLLIN | (client.out.empty() ? 0 : POLLOUT));
      watched.push_back({client.socket.get(), events, 0});
    }
    if (::poll(watched.data(), watched.size(), poll_milliseconds(deadline)) <= 0) continue;
    for (Client& client : clients_) {
      write_to(client);
      std::array<char, 16384> unread;
      const ssize_t count = ::recv(client.socket.get(), unread.data(), unread.size(), 0);
      if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) client.is_lost = true;
    }
    std::erase_if(clients_, [](const Client& client) { return client.is_lost; });
  }
}

}  // namespace tendril::dist
