// The text of --help.
#pragma once

#include <string>

namespace tendril::launch {

std::string help_text();

}  // namespace tendril::launch
