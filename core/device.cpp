#include <tendril/core/device.h>

#include <ostream>

namespace tendril {

std::ostream& operator<<(std::ostream& out, Device device) {
  if (device.is_cpu()) return out << "cpu";
  return out << "cuda:" << device.index;
}

}  // namespace tendril
