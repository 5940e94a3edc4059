// Private to the trainer: DeepSpeed's keys that set nothing here.
#pragma once

#include <string>
#include <vector>

#include <tendril/trainer/sharding/config_section.h>

namespace tendril::sharding {

/// Takes the keys of a section ("" for the top) that only tune DeepSpeed's own engine or its
/// reports, and returns the paths of those that are set.
std::vector<std::string> take_knobs(ConfigSection& config, const std::string& section);

/// Takes the keys of a section that would change what is computed or need what there is not; a
/// problem for each that is switched on.
void refuse(ConfigSection& config, const std::string& section, Problems& problems);

}  // namespace tendril::sharding
