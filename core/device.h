// Where a tensor's numbers live.
#pragma once

#include <iosfwd>
#include <string>

#include <tendril/core/api.h>

namespace tendril {

struct Device {
  enum class Kind : unsigned char { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;

  static constexpr Device cpu() { return {}; }
  static constexpr Device cuda(int index = 0) { return {Kind::cuda, index}; }
  constexpr bool is_cpu() const { return kind == Kind::cpu; }
  constexpr bool is_cuda() const { return kind == Kind::cuda; }
  friend constexpr bool operator==(Device, Device) = default;
};

TENDRIL_API std::ostream& operator<<(std::ostream& out, Device device);  // "cpu", "cuda:0"

}  // namespace tendril
