#include <tendril/trainer/callbacks/reporters/report_page.h>

#include <tendril/trainer/callbacks/log_row.h>

namespace tendril {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark;
  --surface: #fcfcfb; --card: #ffffff; --text: #1c1b19; --muted: #6b6963; --grid: #e4e2dc;
  --series-1: #2a6fd0; --series-2: #d9581f; --series-3: #128a63; --series-4: #a06a00;
  --series-5: #b8447f; --series-6: #5b4fc4; }
@media (prefers-color-scheme: dark) { :root {
  --surface: #161615; --card: #1f1f1d; --text: #f0efeb; --muted: #a3a19a; --grid: #37362f;
  --series-1: #6aa5f2; --series-2: #f08a55; --series-3: #45c498; --series-4: #dcab3e;
  --series-5: #e886b4; --series-6: #a79df2; } }
body { margin: 0 auto; max-width: 1320px; padding: 24px; background: var(--surface);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0; }
h2 { font-size: 17px; margin: 32px 0 8px; }
.status { color: var(--muted); margin: 4px 0 20px; }
.plots { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); }
figure { margin: 0; padding: 14px 16px 8px; background: var(--card); border: 1px solid var(--grid);
  border-radius: 8px; }
figcaption { font-weight: 600; overflow-wrap: anywhere; }
.legend { color: var(--muted); font-size: 13px; }
.legend span { margin-right: 14px; }
.legend i { display: inline-block; width: 12px; height: 3px; margin-right: 6px; vertical-align: middle; }
svg { width: 100%; height: auto; display: block; }
.grid line { stroke: var(--grid); }
.grid text { fill: var(--muted); font-size: 12px; }
.grid .y { text-anchor: end; dominant-baseline: middle; }
.grid .x { text-anchor: middle; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.hidden circle { opacity: 0; r: 6px; }
.hidden circle:hover { opacity: 1; r: 4px; }
table { border-collapse: collapse; font-size: 14px; }
td { border-top: 1px solid var(--grid); padding: 3px 28px 3px 0; vertical-align: top;
  overflow-wrap: anywhere; }
td + td { font-family: ui-monospace, monospace; }
)css";

// A page that was opened while the run goes on follows it.
constexpr const char* kReload =
    "<script>setTimeout(function () { location.reload(); }, 10000);</script>\n";

std::string value_text(const Json& value) {
  if (value.is_string()) return value.as_string();
  if (value.is_number() && !value.is_integer()) return short_number(value.as_double(), 6);
  return value.dump();
}

std::string table(const std::string& heading, const Json& rows) {
  if (rows.members().empty()) return "";
  std::string html = "<h2>" + heading + "</h2>\n<table>\n";
  for (const auto& [name, value] : rows.members())
    html += "<tr><td>" + html_escaped(name) + "</td><td>" + html_escaped(value_text(value)) +
            "</td></tr>\n";
  return html + "</table>\n";
}

}  // namespace

std::string report_page_html(const ReportPage& page) {
  const std::string title = html_escaped(page.title);
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>" +
      title + "</title>\n<style>" + kStyle + "</style>\n";
  if (page.running) html += kReload;
  html += "</head>\n<body>\n<h1>" + title + "</h1>\n<p class=\"status\">" +
          html_escaped(page.status) + "</p>\n";
  if (page.plots.empty()) html += "<p>Nothing has been logged yet.</p>\n";
  html += "<div class=\"plots\">\n";
  for (const Plot& plot : page.plots) html += svg_plot(plot);
  return html + "</div>\n" + table("Latest values", page.latest) +
         table("Arguments", page.arguments) + "</body>\n</html>\n";
}

}  // namespace tendril
