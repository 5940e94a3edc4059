// Did you mean ...? The known name that a mistyped one is nearest to.
#pragma once

#include <string>
#include <vector>

#include <tendril/core/api.h>

namespace tendril {

/// Empty when none of `names` is so near that it may have been meant.
TENDRIL_API std::string nearest_name(const std::vector<std::string>& names,
                                     const std::string& name);

}  // namespace tendril
