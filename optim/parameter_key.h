// Private to optim: random numbers of one parameter in one step.
#pragma once

#include <cstdint>
#include <string>

#include <tendril/core/random.h>

namespace tendril::optim {

/// A pure function of seed, name and step, so that a run that resumes, or has its parameters in
/// another order, draws alike.
inline RandomKey parameter_key(uint64_t seed, const std::string& parameter, int64_t step,
                               Stream stream) {
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
  for (const char c : parameter) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return {.seed = seed ^ hash, .position = static_cast<uint64_t>(step), .stream = stream};
}

}  // namespace tendril::optim
