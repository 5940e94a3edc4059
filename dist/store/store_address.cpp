#include <tendril/dist/store/store_address.h>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include <tendril/core/json.h>

namespace tendril::dist {
namespace {

// The addresses of all interfaces that lead elsewhere, IPv4 first.
std::vector<std::string> interface_addresses() {
  std::vector<std::string> four, six;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return four;
  for (const ifaddrs* entry = list; entry; entry = entry->ifa_next) {
    if (!entry->ifa_addr || !(entry->ifa_flags & IFF_UP) || entry->ifa_flags & IFF_LOOPBACK)
      continue;
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (entry->ifa_addr->sa_family == AF_INET) {
      const auto* address = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
      if (::inet_ntop(AF_INET, &address->sin_addr, text.data(), text.size()))
        four.push_back(text.data());
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      const auto* address = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr)) continue;  // means nothing elsewhere
      if (::inet_ntop(AF_INET6, &address->sin6_addr, text.data(), text.size()))
        six.push_back(text.data());
    }
  }
  ::freeifaddrs(list);
  four.insert(four.end(), six.begin(), six.end());
  return four;
}

}  // namespace

std::string make_token() {
  std::random_device random;
  std::string token;
  for (int i = 0; i < 32; ++i) token += "0123456789abcdef"[random() % 16];
  return token;
}

std::string describe_address(int port, const std::string& token) {
  Json hosts = Json::array();
  for (const std::string& address : interface_addresses()) hosts.push_back(address);
  return Json::object()
      .set("port", port)
      .set("token", token)
      .set("name", host_name())
      .set("hosts", std::move(hosts))
      .dump();
}

StoreAddress find_store(const std::string& description, Clock::time_point deadline) {
  const Json json = Json::parse(description, "the address of rank 0");
  const std::string& name = json.at("name").as_string();
  std::vector<std::string> hosts;
  if (name == host_name()) hosts.push_back("localhost");
  for (const Json& host : json.at("hosts").items()) hosts.push_back(host.as_string());
  if (!name.empty()) hosts.push_back(name);
  hosts.push_back("localhost");  // machines without any network
  std::string problem;
  for (;;) {
    for (const std::string& host : hosts) {
      StoreAddress address{host, static_cast<int>(json.at("port").as_int()),
                           json.at("token").as_string()};
      try {
        const Store store(address, std::min(deadline, Clock::now() + std::chrono::seconds(2)));
        return address;
      } catch (const Error& error) {
        problem = error.what();
      }
    }
    TENDRIL_CHECK(Clock::now() < deadline, problem);
  }
}

}  // namespace tendril::dist
