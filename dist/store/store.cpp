#include <tendril/dist/store/store.h>

#include <algorithm>
#include <array>
#include <thread>

namespace tendril::dist {

Store::Store(const StoreAddress& address, Clock::time_point deadline, Milliseconds patience)
    : patience_(std::min<Milliseconds>(patience, std::chrono::seconds(5))) {
  for (;;) {
    socket_ = connect_to(address.host, address.port, deadline);
    try {
      ask({Frame::hello, 0, std::string(Frame::protocol), address.token});
      patience_ = patience;
      return;
    } catch (const Error&) {  // another program's port, or a server that just goes
      TENDRIL_CHECK(Clock::now() < deadline, "[store] what answers at ", address.host, " port ",
                    address.port, " is not rank 0 of this job; choose another MASTER_PORT");
    }
    in_.clear();
    unanswered_ = 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void Store::set(const std::string& key, const std::string& value) {
  ask({Frame::set, 0, key, value});
}

void Store::set_once(const std::string& key, const std::string& value) {
  ask({Frame::set_once, 0, key, value});
}

std::optional<Store::Found> Store::get(const std::string& key, Milliseconds wait) {
  Frame reply = ask({Frame::get, wait.count(), key, ""}, wait);
  if (reply.kind == Frame::nothing) return std::nullopt;
  return Found{std::move(reply.value), Milliseconds(reply.number)};
}

int64_t Store::add(const std::string& key, int64_t increment) {
  return ask({Frame::add, increment, key, ""}).number;
}

void Store::will(const std::string& key, const std::string& value) {
  ask({Frame::will, 0, key, value});
}

Frame Store::ask(const Frame& request, Milliseconds wait) {
  const std::lock_guard lock(mutex_);
  const std::string bytes = encode(request);
  try {
    send_all(socket_, bytes, Clock::now() + patience_);
  } catch (const ConnectionLost&) {  // what can still be read says why
  }
  const Descriptor none;
  const Descriptor& wake = request.kind == Frame::get ? pipe_.read_end : none;
  for (;;) {
    auto reply = next_reply(Clock::now() + wait + patience_, wake);
    if (!reply) {  // interrupted: the store answers when the next request comes
      pipe_.drain();
      ++unanswered_;
      return {Frame::nothing, 0, "", ""};
    }
    if (reply->kind == Frame::closing)
      throw ConnectionLost("[store] rank 0 has left in good order", true);
    if (unanswered_ > 0) {
      --unanswered_;
      continue;
    }
    TENDRIL_CHECK(reply->kind != Frame::refused, "[store] refused ", request.key, ": ",
                  reply->value);
    return std::move(*reply);
  }
}

// None when `wake` says so.
std::optional<Frame> Store::next_reply(Clock::time_point deadline, const Descriptor& wake) {
  std::array<char, 16384> bytes;
  for (;;) {
    if (auto frame = take_frame(in_)) return frame;
    const size_t count = receive_some(socket_, bytes, deadline, wake);
    if (count == 0 && Clock::now() < deadline) return std::nullopt;
    if (count == 0) throw ConnectionLost("[store] no answer");
    in_.append(bytes.data(), count);
  }
}

}  // namespace tendril::dist
