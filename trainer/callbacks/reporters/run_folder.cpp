#include <tendril/trainer/callbacks/reporters/run_folder.h>

#include <unistd.h>

#include <array>
#include <ctime>

namespace tendril {

std::string host_name() {
  std::array<char, 256> name{};
  const bool known = ::gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0';
  return known ? name.data() : "localhost";
}

std::string run_folder_name() { return "runs/" + local_time_text('_', '-') + "_" + host_name(); }

std::string local_time_text(char between, char colon) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  const std::string format = std::string("%Y-%m-%d") + between + "%H" + colon + "%M" + colon + "%S";
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), format.c_str(), &local)};
}

}  // namespace tendril
