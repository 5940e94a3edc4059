#include <tendril/dist/launch/process_table.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace tendril::launch {

std::vector<ProcessEntry> living_processes() {
  std::vector<ProcessEntry> entries;
  std::error_code problem;
  for (const auto& folder : std::filesystem::directory_iterator("/proc", problem)) {
    const std::string name = folder.path().filename().string();
    ProcessEntry entry;
    const char* end = name.data() + name.size();
    if (std::from_chars(name.data(), end, entry.process).ptr != end) continue;
    std::string line;
    std::ifstream file(folder.path() / "stat");
    if (!std::getline(file, line)) continue;  // it has just ended
    // "12 (a name) S 1 12 ...": the name may hold anything, so the last parenthesis counts.
    std::istringstream fields(line.substr(line.rfind(')') + 1));
    char state = 0;
    if (fields >> state >> entry.parent >> entry.group >> entry.session && state != 'Z' &&
        state != 'X')
      entries.push_back(entry);
  }
  return entries;
}

}  // namespace tendril::launch
