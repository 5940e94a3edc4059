// A made-up machine, and short ways to a configuration and a plan.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <tendril/core/file.h>
#include <tendril/dist/launch/config.h>
#include <tendril/dist/launch/plan.h>

#include "file_tools.h"

namespace tendril::launch::testing {

using tendril::testing::contains_text;
using tendril::testing::error_of;
using tendril::testing::TemporaryFolder;
using tendril::testing::write_bytes;
using Words = std::vector<std::string>;

inline Machine gpu_machine(int gpus) {
  Machine machine;
  machine.gpus = gpus;
  machine.cores = 16;
  machine.mpirun = "/usr/bin/mpirun";
  return machine;
}

inline std::string fixture(const std::string& name) {
  return std::string(TENDRIL_SOURCE_DIR) + "/tests/dist/launch/" + name;
}

/// The folder that deepspeed_file.yaml names its file from.
class InFixtures {
 public:
  InFixtures() : before_(std::filesystem::current_path()) {
    std::filesystem::current_path(fixture(""));
  }
  ~InFixtures() { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_;
};

/// Words after --config_file and a file with this text.
inline LaunchConfig config_of(const std::string& yaml, Words words = {},
                              const Environment& environment = {}) {
  const TemporaryFolder folder;
  const std::string path = folder.file("launch.yaml");
  write_bytes(path, yaml);
  words.insert(words.begin(), {"--config_file", path});
  return read_config(words, environment);
}

inline Plan plan_of(Words words, const Machine& machine, Environment environment = {}) {
  words.emplace_back("/bin/true");
  environment.emplace("HOME", "/nonexistent");  // whoever runs the tests has a file of their own
  return make_plan(read_config(words, environment), environment, machine);
}

inline std::string plan_error(const Words& words, const Machine& machine,
                              const Environment& environment = {}) {
  return error_of([&] { plan_of(words, machine, environment); });
}

}  // namespace tendril::launch::testing
