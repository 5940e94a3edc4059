// Comma-separated values as RFC 4180 quotes them. Lines end in "\n", which line tools expect;
// "\r\n" is read as well.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <tendril/core/api.h>

namespace tendril {

/// The fields of one line, quoted where they hold a comma, a quote or a line break; with "\n".
TENDRIL_API std::string csv_line(const std::vector<std::string>& fields);

/// All records of a text. A line without its end is one as well.
TENDRIL_API std::vector<std::vector<std::string>> parse_csv(std::string_view text);

}  // namespace tendril
