// The HTML of a report.
#pragma once

#include <string>
#include <vector>

#include <tendril/core/json.h>
#include <tendril/trainer/callbacks/reporters/svg_plot.h>

namespace tendril {

struct ReportPage {
  std::string title;
  std::string status;    // one line below the title
  bool running = false;  // the page reloads itself
  std::vector<Plot> plots;
  Json latest = Json::object();  // tables of name and value
  Json arguments = Json::object();
};

/// One file: style and pictures are inside, nothing is fetched. Elements without content are closed
/// as XML closes them, so that simple tools can read the page.
TENDRIL_API std::string report_page_html(const ReportPage& page);

}  // namespace tendril
