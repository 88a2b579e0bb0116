// SPDX-License-Identifier: Apache-2.0
// Compiles sparse matrices and reads them back.
#include "cpu/sparse_compile.h"

#include <algorithm>
#include <cstring>

namespace ltlstm::cpu {

bool has_form(SparseForm form, int64_t columns, SparseTarget target) {
  return form != SparseForm::kWindows || (target.window > 0 && columns >= target.window);
}

// Measured with AVX-512 and with AVX2. An entry of one form takes about the same time in proportion
// to that of another whether one row of x is multiplied or many.
int64_t sparse_work(SparseForm form, int64_t entries, SparseTarget target) {
  const int64_t of_columns = entries * target.lanes;
  if (form == SparseForm::kWindows) return of_columns + of_columns * 3 / 10;
  return form == SparseForm::kColumns ? of_columns : of_columns / 2;
}

namespace {

constexpr int64_t kMagic = 0x31657372617073;  // "sparse1"
constexpr int64_t kAlignment = 64;

struct Header {
  int64_t magic, scalar_size, lanes, form, gates, width, columns, entries;
};

int64_t aligned(int64_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

// Where each array starts in the block of bytes.
struct Layout {
  explicit Layout(const Header& h) {
    const bool wide = static_cast<SparseForm>(h.form) != SparseForm::kRows;
    const bool windows = static_cast<SparseForm>(h.form) == SparseForm::kWindows;
    const int64_t lanes = wide ? h.lanes : 1;
    lines = h.gates * ((h.width + lanes - 1) / lanes);
    starts = aligned(sizeof(Header));
    places = starts + aligned((lines + 1) * sizeof(int32_t));
    indices = places + aligned(h.entries * sizeof(int16_t));
    values = indices + aligned(windows ? h.entries * lanes : 0);
    size = values + h.entries * lanes * h.scalar_size;
  }
  int64_t lines, starts, places, indices, values, size;
};

// The elements that count of one row.
template <class scalar>
struct Row {
  std::vector<int16_t> columns;
  std::vector<scalar> values;
};

template <class scalar>
std::vector<Row<scalar>> live_rows(const scalar* weight, const bool* mask, SparseShape shape) {
  std::vector<Row<scalar>> rows(shape.gates * shape.width);
  for (Row<scalar>& row : rows) {
    for (int64_t j = 0; j < shape.columns; ++j) {
      if (mask ? !mask[j] : weight[j] == 0) continue;
      row.columns.push_back(static_cast<int16_t>(j));
      row.values.push_back(weight[j]);
    }
    weight += shape.columns;
    if (mask) mask += shape.columns;
  }
  return rows;
}

template <class scalar>
struct Entries {
  std::vector<int32_t> starts = {0};
  std::vector<int16_t> places;
  std::vector<uint8_t> lanes;
  std::vector<scalar> values;

  // One more entry, of zeros.
  void add(int64_t place, int64_t width, bool windows) {
    places.push_back(static_cast<int16_t>(place));
    values.resize(values.size() + width);
    if (windows) lanes.resize(lanes.size() + width);
  }
  void end_line() { starts.push_back(static_cast<int32_t>(places.size())); }
};

// The rows of one line, each with the next of its elements.
template <class scalar>
class Line {
 public:
  Line(const Row<scalar>* rows, int64_t count) : rows_(rows), next_(count, 0) {}

  // The first column that has not been taken, or -1.
  int64_t pending() const {
    int64_t first = INT64_MAX;
    for (size_t i = 0; i < next_.size(); ++i)
      if (left(i)) first = std::min<int64_t>(first, rows_[i].columns[next_[i]]);
    return first == INT64_MAX ? -1 : first;
  }

  // take(lane, column, value) of each row whose next element lies before column `end`.
  template <class Take>
  void each_before(int64_t end, const Take& take) {
    for (size_t i = 0; i < next_.size(); ++i) {
      if (!left(i) || rows_[i].columns[next_[i]] >= end) continue;
      take(i, rows_[i].columns[next_[i]], rows_[i].values[next_[i]]);
      ++next_[i];
    }
  }

 private:
  bool left(size_t i) const { return next_[i] < rows_[i].columns.size(); }

  const Row<scalar>* rows_;
  std::vector<size_t> next_;
};

// step: windows start at multiples of it. The first element that is left decides where the next one
// starts, and each lane takes what it has there.
template <class scalar>
void add_line(Entries<scalar>& entries, Line<scalar> line, SparseShape shape, SparseTarget target,
              SparseForm form, int64_t step) {
  const bool windows = form == SparseForm::kWindows;
  const int64_t width = form == SparseForm::kRows ? 1 : target.lanes;
  for (int64_t first = line.pending(); first >= 0; first = line.pending()) {
    const int64_t place =
        windows ? std::min(first / step * step, shape.columns - target.window) : first;
    entries.add(place, width, windows);
    scalar* values = entries.values.data() + entries.values.size() - width;
    uint8_t* lanes = entries.lanes.data() + entries.lanes.size() - (windows ? width : 0);
    const int64_t end = windows ? place + target.window : first + 1;
    line.each_before(end, [&](size_t lane, int64_t column, scalar value) {
      values[lane] = value;
      if (windows) lanes[lane] = static_cast<uint8_t>(column - place);
    });
  }
  entries.end_line();
}

template <class scalar>
Entries<scalar> made(const std::vector<Row<scalar>>& rows, SparseShape shape, SparseTarget target,
                     SparseForm form, int64_t step) {
  const int64_t height = form == SparseForm::kRows ? 1 : target.lanes;
  Entries<scalar> entries;
  for (int64_t gate = 0; gate < shape.gates; ++gate)
    for (int64_t unit = 0; unit < shape.width; unit += height)
      add_line(entries,
               Line<scalar>(rows.data() + gate * shape.width + unit,
                            std::min(height, shape.width - unit)),
               shape, target, form, step);
  return entries;
}

// Windows that overlap by half serve random masks, windows side by side banks of equal counts.
template <class scalar>
Entries<scalar> made(const std::vector<Row<scalar>>& rows, SparseShape shape, SparseTarget target,
                     SparseForm form) {
  if (form != SparseForm::kWindows) return made(rows, shape, target, form, 1);
  Entries<scalar> overlapping = made(rows, shape, target, form, target.window / 2);
  Entries<scalar> beside = made(rows, shape, target, form, target.window);
  return beside.places.size() <= overlapping.places.size() ? beside : overlapping;
}

template <class scalar>
SparseForm fastest_form(const std::vector<Row<scalar>>& rows, SparseShape shape,
                        SparseTarget target) {
  SparseForm fastest = SparseForm::kRows;
  int64_t least = INT64_MAX;
  for (SparseForm form : {SparseForm::kColumns, SparseForm::kWindows, SparseForm::kRows}) {
    if (!has_form(form, shape.columns, target)) continue;
    const auto entries = static_cast<int64_t>(made(rows, shape, target, form).places.size());
    const int64_t work = sparse_work(form, entries, target);
    if (work < least) least = work, fastest = form;
  }
  return fastest;
}

template <class T>
void put(std::vector<uint8_t>& bytes, int64_t offset, const std::vector<T>& from) {
  if (!from.empty()) memcpy(bytes.data() + offset, from.data(), from.size() * sizeof(T));
}

}  // namespace

template <class scalar>
std::vector<uint8_t> compile_sparse(const scalar* weight, const bool* mask, SparseShape shape,
                                    SparseTarget target, std::optional<SparseForm> wanted) {
  const auto rows = live_rows(weight, mask, shape);
  const SparseForm form = wanted ? *wanted : fastest_form(rows, shape, target);
  const Entries<scalar> entries = made(rows, shape, target, form);
  const Header header = {
      kMagic,      sizeof(scalar), target.lanes,  static_cast<int64_t>(form),
      shape.gates, shape.width,    shape.columns, static_cast<int64_t>(entries.places.size())};
  const Layout layout(header);
  std::vector<uint8_t> bytes(layout.size);
  memcpy(bytes.data(), &header, sizeof(header));
  put(bytes, layout.starts, entries.starts);
  put(bytes, layout.places, entries.places);
  put(bytes, layout.indices, entries.lanes);
  put(bytes, layout.values, entries.values);
  return bytes;
}

SparseShape shape_of_sparse(const uint8_t* bytes, int64_t size) {
  Header header{};
  memcpy(&header, bytes, std::min<int64_t>(size, sizeof(header)));
  for (int64_t value : {header.gates, header.width, header.columns})
    if (value < 1 || value > INT32_MAX) return {0, 0, 0};
  return {header.gates, header.width, header.columns};
}

template <class scalar>
const char* read_sparse(const uint8_t* bytes, int64_t size, SparseTarget target,
                        SparseMatrix<scalar>& matrix) {
  Header h;
  if (size < static_cast<int64_t>(sizeof(h))) return "too short to be a compiled matrix";
  memcpy(&h, bytes, sizeof(h));
  constexpr int64_t kMost = INT32_MAX;  // no product below overflows
  const auto within = [](int64_t value, int64_t least, int64_t most) {
    return least <= value && value <= most;
  };
  if (h.magic != kMagic) return "not a compiled matrix";
  if (h.scalar_size != sizeof(scalar)) return "compiled for another dtype";
  if (h.lanes != target.lanes) return "compiled for another instruction set";
  const auto form = static_cast<SparseForm>(h.form);
  const char* damaged = "a damaged matrix";
  if (!within(h.form, 0, static_cast<int64_t>(SparseForm::kWindows)) ||
      !within(h.gates, 1, kMost) || !within(h.width, 1, kMost / h.gates) ||
      !within(h.columns, 1, kMostSparseColumns) || !within(h.entries, 0, kMost) ||
      !has_form(form, h.columns, target))
    return damaged;
  const Layout layout(h);
  if (layout.size != size) return damaged;
  matrix = {form,
            h.gates,
            h.width,
            h.columns,
            h.entries,
            reinterpret_cast<const int32_t*>(bytes + layout.starts),
            reinterpret_cast<const int16_t*>(bytes + layout.places),
            bytes + layout.indices,
            reinterpret_cast<const scalar*>(bytes + layout.values)};
  if (matrix.starts[0] != 0 || matrix.starts[layout.lines] != h.entries) return damaged;
  bool ordered = true;
  for (int64_t i = 0; i < layout.lines; ++i) ordered &= matrix.starts[i] <= matrix.starts[i + 1];
  const int reach = static_cast<int>(form == SparseForm::kWindows ? target.window : 1);
  const int last = static_cast<int>(h.columns) - reach;
  bool inside = true;
  for (int64_t i = 0; i < h.entries; ++i)
    inside &= matrix.places[i] >= 0 && matrix.places[i] <= last;
  return ordered && inside ? nullptr : damaged;
}

template std::vector<uint8_t> compile_sparse(const float*, const bool*, SparseShape, SparseTarget,
                                             std::optional<SparseForm>);
template std::vector<uint8_t> compile_sparse(const double*, const bool*, SparseShape, SparseTarget,
                                             std::optional<SparseForm>);
template const char* read_sparse(const uint8_t*, int64_t, SparseTarget, SparseMatrix<float>&);
template const char* read_sparse(const uint8_t*, int64_t, SparseTarget, SparseMatrix<double>&);

}  // namespace ltlstm::cpu
