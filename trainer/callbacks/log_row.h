// A log row as a line that people read.
#pragma once

#include <cstdint>
#include <string>

#include <tendril/core/json.h>

namespace tendril {

/// A number in `digits` significant digits, whatever the locale: 1.2345, 5e-05.
TENDRIL_API std::string short_number(double value, int digits = 5);

/// "step 500/2000  loss 1.2345  learning_rate 5e-05  epoch 1.25": the row's members in their order,
/// but for `step`, which leads, and for `total_flos`, which says nothing to a reader. Texts longer
/// than `max_str_len` bytes are cut and end in "...". The row itself is not changed.
TENDRIL_API std::string log_row_text(const Json& row, int64_t step, int64_t max_steps,
                                     int64_t max_str_len = 100);

}  // namespace tendril
