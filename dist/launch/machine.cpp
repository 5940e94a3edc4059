#include <tendril/dist/launch/machine.h>

#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>

#include <tendril/core/error.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

namespace fs = std::filesystem;

// The driver's device files: /dev/nvidia0, /dev/nvidia1, ...
int count_gpus(const Environment& environment) {
  const std::string prefix = "nvidia";
  int devices = 0;
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator("/dev", problem)) {
    const std::string name = entry.path().filename().string();
    devices += name.starts_with(prefix) && name.size() > prefix.size() &&
               std::all_of(name.begin() + static_cast<std::ptrdiff_t>(prefix.size()), name.end(),
                           [](unsigned char c) { return std::isdigit(c) != 0; });
  }
  const auto visible = environment.find("CUDA_VISIBLE_DEVICES");
  if (devices == 0 || visible == environment.end()) return devices;
  int count = 0;
  for (const std::string& id : split(visible->second, ',')) {
    if (id.starts_with('-')) break;  // CUDA stops at the first that is none
    ++count;
  }
  return std::min(count, devices);
}

// Processors that share a core have the same list of siblings.
int count_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  std::set<std::string> cores;
  int processors = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    ++processors;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                       "/topology/thread_siblings_list");
    std::string siblings;
    if (std::getline(file, siblings)) cores.insert(siblings);
  }
  return std::max(1, cores.empty() ? processors : static_cast<int>(cores.size()));
}

// The port that a listening socket got, 0 when it cannot have this one.
int try_port(int port) {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return 0;
  const int yes = 1;  // a port in TIME_WAIT is free for the ranks, too
  ::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  address.sin_port = htons(static_cast<uint16_t>(port));
  socklen_t size = sizeof address;
  const bool works = ::bind(descriptor, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     ::listen(descriptor, 1) == 0 &&
                     ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  ::close(descriptor);
  return works ? ntohs(address.sin_port) : 0;
}

}  // namespace

std::string find_program(const std::string& name, const Environment& environment) {
  const auto is_program = [](const std::string& path) {
    return fs::is_regular_file(path) && ::access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string::npos) return is_program(name) ? name : "";
  const auto path = environment.find("PATH");
  if (path == environment.end()) return "";
  for (const std::string& folder : split(path->second, ':'))
    if (const std::string candidate = folder + "/" + name; is_program(candidate)) return candidate;
  return "";
}

Machine this_machine(const Environment& environment) {
  Machine machine;
  machine.gpus = count_gpus(environment);
  machine.cores = count_cores();
  machine.is_root = ::geteuid() == 0;
  machine.mpirun = find_program("mpirun", environment);
  machine.is_port_free = [](int port) { return try_port(port) != 0; };
  machine.free_port = [] {
    const int port = try_port(0);
    TENDRIL_CHECK(port != 0, "[launch] this machine has no free port");
    return port;
  };
  return machine;
}

}  // namespace tendril::launch
