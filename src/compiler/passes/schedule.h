// schedule: the program is cut into stages. Assumes a verified program after all rewrites.
//
// A value of the row is computed as early as it can be; a reduction over "page" of a value made in page stage k ends in
// finish k. Work on pages that only a later reduction over "page" waits for stays in the finish when it is light: it
// reads no summary and at most kLightElements floats a page. So a softmax costs one finish and not two. A page value
// that crosses a boundary is kept in fp32, except sources, which are read again. A page stage runs over one domain: all
// candidates, their groups, or the pages of a set, which the finish before has listed. Values go from one domain to
// another (confine, spread) through what is kept.
#pragma once

#include "compiler/plan.h"

namespace vortex::compiler {

inline constexpr std::int64_t kLightElements = 64;

std::vector<Stage> schedule(const ir::Program&, const ir::Geometry&);

// A value that stages read again where they need it: a source of pages or groups, whole or of the pages of a set.
bool is_read_again(const ir::Program&, ir::ValueId);
// The source that it reads.
ir::ValueId source_of(const ir::Program&, ir::ValueId read_again);

// Elements of a value, the page axis not counted.
std::int64_t elements_of(const ir::Type&, const ir::Geometry&);

}  // namespace vortex::compiler
