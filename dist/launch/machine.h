// What this machine has, as far as starting processes needs it. Tests make one up.
#pragma once

#include <functional>
#include <string>

#include <tendril/dist/launch/config.h>

namespace tendril::launch {

struct Machine {
  int gpus = 0;   // that CUDA_VISIBLE_DEVICES lets through
  int cores = 1;  // physical ones that this process may use, what mpirun calls slots
  bool is_root = false;
  std::string mpirun;  // its path; "" for none
  std::function<bool(int port)> is_port_free = [](int) { return true; };
  std::function<int()> free_port = [] { return 29500; };
};

Machine this_machine(const Environment& environment);

/// The path of a program as execvp would find it; "" when there is none.
std::string find_program(const std::string& name, const Environment& environment);

}  // namespace tendril::launch
