// What the attention workers of a rank did, for report.json and report.txt.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "parallel/attention/dispatcher.h"

namespace longtake {

nlohmann::ordered_json json_of(const DispatchReport& report);
DispatchReport dispatch_report_of(const nlohmann::json& json);
// One line per worker, empty where there was none.
std::string to_text(const DispatchReport& report, int rank);

}  // namespace longtake
