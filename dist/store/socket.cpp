#include <tendril/dist/store/socket.h>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include <tendril/core/file.h>
#include <tendril/core/json.h>

namespace tendril::dist {
namespace {

void set_option(const Descriptor& socket, int level, int option, int value) {
  ::setsockopt(socket.get(), level, option, &value, sizeof(value));  // all of them can be missed
}

void make_nonblocking(const Descriptor& socket) {
  const int flags = ::fcntl(socket.get(), F_GETFL);
  ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK);
  ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
}

// Small messages leave at once, and a machine that vanishes without a word is noticed in about 15
// seconds.
void prepare(const Descriptor& socket) {
  make_nonblocking(socket);
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, 5);
#endif
#ifdef TCP_USER_TIMEOUT
  set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, 15'000);
#endif
}

using AddressList = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

AddressList addresses_of(const std::string& host, int port, std::string& problem) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int status = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (status != 0) problem = ::gai_strerror(status);
  return {status == 0 ? list : nullptr, [](addrinfo* entry) {
            if (entry) ::freeaddrinfo(entry);
          }};
}

// Waits until `events` are there. False at the deadline or when `wake` can be read.
bool wait_for(const Descriptor& socket, short events, Clock::time_point deadline,
              const Descriptor& wake) {
  pollfd both[2] = {{socket.get(), events, 0}, {wake.get(), POLLIN, 0}};
  for (;;) {
    const int ready = ::poll(both, wake.is_open() ? 2 : 1, poll_milliseconds(deadline));
    if (ready < 0 && errno == EINTR) continue;
    TENDRIL_CHECK(ready >= 0, "[store] cannot wait for a connection: ", system_message(errno));
    if (both[0].revents != 0) return true;
    if (ready > 0 || Clock::now() >= deadline) return false;
  }
}

// Whoever tries a port of the own machine that nobody listens at may be given just this port as its
// own, and then talks to itself.
bool is_connected_to_itself(const Descriptor& socket) {
  sockaddr_storage here{}, there{};
  socklen_t here_size = sizeof(here), there_size = sizeof(there);
  return ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&here), &here_size) == 0 &&
         ::getpeername(socket.get(), reinterpret_cast<sockaddr*>(&there), &there_size) == 0 &&
         here_size == there_size && std::memcmp(&here, &there, here_size) == 0;
}

Descriptor try_address(const addrinfo& address, Clock::time_point deadline, std::string& problem) {
  Descriptor socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) {
    problem = system_message(errno);
    return socket;
  }
  prepare(socket);
  int error = 0;
  if (::connect(socket.get(), address.ai_addr, address.ai_addrlen) != 0) error = errno;
  if (error == EINPROGRESS || error == EINTR) {
    const auto soon = std::min(deadline, Clock::now() + std::chrono::seconds(5));
    error = ETIMEDOUT;
    socklen_t size = sizeof(error);
    if (wait_for(socket, POLLOUT, soon, Descriptor()))
      ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  }
  if (error == 0 && is_connected_to_itself(socket)) error = ECONNREFUSED;
  if (error == 0) return socket;
  problem = system_message(error);
  return Descriptor();
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0;
}

Descriptor listen_on(int family, bool loopback, int port, std::string& problem) {
  Descriptor socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) {
    problem = system_message(errno);
    return socket;
  }
  make_nonblocking(socket);
  set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  sockaddr_storage address{};
  socklen_t size = sizeof(sockaddr_in);
  if (family == AF_INET6) {
    auto& six = reinterpret_cast<sockaddr_in6&>(address);
    six.sin6_addr = loopback ? in6addr_loopback : in6addr_any;
    six.sin6_port = htons(static_cast<uint16_t>(port));
    set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);  // IPv4 as well
    size = sizeof(six);
  } else {
    auto& four = reinterpret_cast<sockaddr_in&>(address);
    four.sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY);
    four.sin_port = htons(static_cast<uint16_t>(port));
  }
  address.ss_family = static_cast<sa_family_t>(family);
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      ::listen(socket.get(), 1024) == 0)
    return socket;
  problem = system_message(errno);
  return Descriptor();
}

}  // namespace

ConnectionLost::~ConnectionLost() = default;

Descriptor::~Descriptor() {
  if (is_open()) ::close(number_);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

int poll_milliseconds(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 60'000));
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || !is_utf8(name.data())) return "";
  return name.data();
}

Descriptor listen_at(const std::string& host, int port) {
  const bool loopback = is_loopback(host);
  std::string problem;
  // The IPv6 wildcard serves IPv4 as well; the IPv6 loopback address does not.
  const bool six_first = !loopback || host == "::1";
  Descriptor socket = listen_on(six_first ? AF_INET6 : AF_INET, loopback, port, problem);
  if (!socket.is_open() && !loopback) socket = listen_on(AF_INET, false, port, problem);
  TENDRIL_CHECK(socket.is_open(), "[store] rank 0 cannot listen at port ", port, ": ", problem,
                "; choose another MASTER_PORT");
  return socket;
}

int port_of(const Descriptor& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  TENDRIL_CHECK(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0,
                "[store] a socket has no address: ", system_message(errno));
  const uint16_t port = address.ss_family == AF_INET6
                            ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                            : reinterpret_cast<sockaddr_in&>(address).sin_port;
  return ntohs(port);
}

Descriptor accept_from(const Descriptor& listener) {
  Descriptor socket(::accept(listener.get(), nullptr, nullptr));
  if (socket.is_open()) prepare(socket);
  return socket;
}

Descriptor connect_to(const std::string& host, int port, Clock::time_point deadline) {
  std::string problem = "no answer";
  for (;;) {
    const AddressList list = addresses_of(host, port, problem);
    for (const addrinfo* address = list.get(); address; address = address->ai_next) {
      Descriptor socket = try_address(*address, deadline, problem);
      if (socket.is_open()) return socket;
    }
    TENDRIL_CHECK(Clock::now() < deadline, "[store] cannot reach rank 0 at ", host, " port ", port,
                  ": ", problem);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // rank 0 may not be there yet
  }
}

void send_all(const Descriptor& socket, std::span<const char> bytes, Clock::time_point deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      TENDRIL_CHECK(wait_for(socket, POLLOUT, deadline, Descriptor()),
                    "[store] a message could not be sent in time");
    } else if (errno != EINTR) {
      throw ConnectionLost("[store] the connection has ended: " + system_message(errno));
    }
  }
}

size_t receive_some(const Descriptor& socket, std::span<char> bytes, Clock::time_point deadline,
                    const Descriptor& wake) {
  for (;;) {
    const ssize_t received = ::recv(socket.get(), bytes.data(), bytes.size(), 0);
    if (received > 0) return static_cast<size_t>(received);
    if (received == 0) throw ConnectionLost("[store] the other side has closed the connection");
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait_for(socket, POLLIN, deadline, wake)) return 0;
    } else if (errno != EINTR) {
      throw ConnectionLost("[store] the connection has ended: " + system_message(errno));
    }
  }
}

WakePipe::WakePipe() {
  int ends[2];
  TENDRIL_CHECK(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0,
                "[store] cannot make a pipe: ", system_message(errno));
  read_end = Descriptor(ends[0]);
  write_end = Descriptor(ends[1]);
}

void WakePipe::wake() const {
  const char byte = 0;
  while (::write(write_end.get(), &byte, 1) < 0 && errno == EINTR) {
  }  // a full pipe wakes as well
}

void WakePipe::drain() const {
  char bytes[64];
  while (::read(read_end.get(), bytes, sizeof(bytes)) > 0) {
  }
}

}  // namespace tendril::dist
