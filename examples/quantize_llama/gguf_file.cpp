// SPDX-License-Identifier: MIT
#include "quantize_llama/gguf_file.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <stdexcept>
#include <utility>

#include "common/decode_floats.hpp"
#include "common/error.hpp"
#include "common/file_kind.hpp"

namespace examples {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are used as they lie in the file");

constexpr std::string_view magic = "GGUF";
constexpr std::uint32_t written_version = 3;
constexpr const char* alignment_key = "general.alignment";
constexpr std::uint64_t default_alignment = 32;
constexpr std::uint64_t longest_tensor_name = 63;  // ggml keeps 64 bytes, the last of which is 0
constexpr std::uint64_t longest_key = 65535;
constexpr std::uint32_t most_dimensions = 4;

constexpr std::array<gguf_type, 19> types{{{gguf_f32, "F32", 1, 4},
                                           {gguf_f16, "F16", 1, 2},
                                           {2, "Q4_0", 32, 18},
                                           {3, "Q4_1", 32, 20},
                                           {6, "Q5_0", 32, 22},
                                           {7, "Q5_1", 32, 24},
                                           {8, "Q8_0", 32, 34},
                                           {10, "Q2_K", 256, 84},
                                           {11, "Q3_K", 256, 110},
                                           {12, "Q4_K", 256, 144},
                                           {13, "Q5_K", 256, 176},
                                           {14, "Q6_K", 256, 210},
                                           {24, "I8", 1, 1},
                                           {25, "I16", 1, 2},
                                           {26, "I32", 1, 4},
                                           {27, "I64", 1, 8},
                                           {28, "F64", 1, 8},
                                           {gguf_bf16, "BF16", 1, 2},
                                           {42, "Q2_0", 64, 18}}};

/// Bytes of a value; 0 for texts and arrays, whose length is in the file.
constexpr std::uint64_t width_of(gguf_value type) {
    switch (type) {
        case gguf_value::u8:
        case gguf_value::i8:
        case gguf_value::boolean: return 1;
        case gguf_value::u16:
        case gguf_value::i16: return 2;
        case gguf_value::u32:
        case gguf_value::i32:
        case gguf_value::f32: return 4;
        case gguf_value::u64:
        case gguf_value::i64:
        case gguf_value::f64: return 8;
        case gguf_value::text:
        case gguf_value::array: break;
    }
    return 0;
}

/// Reads a file from its beginning on.
class cursor {
public:
    cursor(std::span<const std::byte> file, std::string name) : file_(file), name_(std::move(name)) {}

    [[nodiscard]] std::uint64_t position() const noexcept { return position_; }
    [[nodiscard]] std::uint64_t left() const noexcept { return file_.size() - position_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] std::string_view from(std::uint64_t begin) const {
        return {reinterpret_cast<const char*>(file_.data()) + begin, static_cast<std::size_t>(position_ - begin)};
    }

    template <class Number>
    Number number(const std::string& what) {
        Number value;
        const std::string_view bytes = take(sizeof value, what);
        std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }

    std::string_view take(std::uint64_t count, const std::string& what) {
        if (count > left()) refuse(name_, ": ", what, " does not fit into the file's ", file_.size(), " bytes");
        position_ += count;
        return from(position_ - count);
    }

    /// How many of something follow, each of which takes at least `least` bytes.
    std::uint64_t count(std::uint64_t least, const std::string& what) {
        const auto value = number<std::uint64_t>("the number of " + what);
        if (value > left() / least) refuse(name_, ": ", value, " ", what, " do not fit into the file's ", file_.size(), " bytes");
        return value;
    }

    std::string_view text(const std::string& what) {
        const auto length = number<std::uint64_t>("the length of " + what);
        return take(length, what);
    }

    /// A key or the name of a tensor.
    std::string identifier(std::uint64_t longest, const std::string& what) {
        const std::string_view name = text(what);
        if (name.empty()) refuse(name_, ": ", what, " is empty");
        if (name.size() > longest) refuse(name_, ": ", what, " has ", name.size(), " bytes, more than the ", longest, " that are allowed");
        if (std::any_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }))
            refuse(name_, ": ", what, " has a control character: ", name);
        return std::string(name);
    }

private:
    std::span<const std::byte> file_;
    std::string name_;
    std::uint64_t position_ = 0;
};

gguf_value value_type(cursor& at, const std::string& what) {
    const auto type = at.number<std::uint32_t>("the type of " + what);
    if (type > static_cast<std::uint32_t>(gguf_value::f64)) refuse(at.name(), ": ", what, " has the unknown type ", type);
    return static_cast<gguf_value>(type);
}

void require_booleans(const cursor& at, std::string_view bytes, const std::string& what) {
    if (std::any_of(bytes.begin(), bytes.end(), [](char c) { return c != 0 && c != 1; }))
        refuse(at.name(), ": ", what, " is a boolean that is neither 0 nor 1");
}

/// Passes a value.
void skip_value(cursor& at, gguf_value type, const std::string& what) {
    if (type == gguf_value::text) {
        static_cast<void>(at.text(what));
        return;
    }
    if (type != gguf_value::array) {
        const std::string_view bytes = at.take(width_of(type), what);
        if (type == gguf_value::boolean) require_booleans(at, bytes, what);
        return;
    }
    const gguf_value element = value_type(at, what);
    if (element == gguf_value::array) refuse(at.name(), ": ", what, " is an array of arrays");
    const std::uint64_t least = element == gguf_value::text ? sizeof(std::uint64_t) : width_of(element);
    const std::uint64_t count = at.count(least, "elements of " + what);
    if (element == gguf_value::text) {
        for (std::uint64_t i = 0; i < count; ++i) static_cast<void>(at.text("an element of " + what));
        return;
    }
    const std::string_view bytes = at.take(count * least, what);
    if (element == gguf_value::boolean) require_booleans(at, bytes, what);
}

gguf_entry read_entry(cursor& at) {
    gguf_entry entry;
    entry.key = at.identifier(longest_key, "a key");
    entry.type = value_type(at, entry.key);
    const std::uint64_t begin = at.position();
    skip_value(at, entry.type, entry.key);
    entry.bytes = at.from(begin);
    return entry;
}

/// `offset` is that in front of `begin`, relative to the data, and `end` is not known yet.
gguf_tensor_info read_tensor_info(cursor& at) {
    gguf_tensor_info info;
    info.name = at.identifier(longest_tensor_name, "the name of a tensor");
    const std::string what = "tensor " + info.name;
    const auto dimensions = at.number<std::uint32_t>("the dimensions of " + what);
    if (dimensions == 0 || dimensions > most_dimensions)
        refuse(at.name(), ": ", what, " has ", dimensions, " dimensions, it must be 1 to ", most_dimensions);
    std::uint64_t elements = 1;
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    for (std::uint32_t d = 0; d < dimensions; ++d) {
        const auto size = at.number<std::uint64_t>("the sizes of " + what);
        if (size == 0) refuse(at.name(), ": ", what, " has a size of 0");
        if (size > most / 8 / elements) refuse(at.name(), ": ", what, ": the number of elements overflows");
        elements *= size;
        info.sizes.push_back(size);
    }
    info.type = at.number<std::uint32_t>("the type of " + what);
    const gguf_type* const type = find_gguf_type(info.type);
    if (type == nullptr) refuse(at.name(), ": ", what, " has type ", info.type, ", which this program does not know");
    if (info.sizes.front() % type->elements != 0)
        refuse(at.name(), ": ", what, ": rows of ", info.sizes.front(), " do not fill blocks of ", type->elements, " of type ", type->name);
    info.begin = at.number<std::uint64_t>("the offset of " + what);
    return info;
}

std::uint64_t aligned(std::uint64_t position, std::uint64_t alignment) { return (position + alignment - 1) / alignment * alignment; }

std::uint32_t number_in(const gguf_entry& entry) {
    std::uint32_t value = 0;
    std::memcpy(&value, entry.bytes.data(), sizeof value);
    return value;
}

/// The alignment that metadata asks for.
/// @param file  for the message
std::uint64_t alignment_of(std::span<const gguf_entry> metadata, const std::string& file) {
    const auto entry = std::find_if(metadata.begin(), metadata.end(), [](const gguf_entry& e) { return e.key == alignment_key; });
    if (entry == metadata.end()) return default_alignment;
    if (entry->type != gguf_value::u32) refuse(file, ": ", alignment_key, " is not of type uint32");
    const std::uint32_t alignment = number_in(*entry);
    if (!std::has_single_bit(alignment)) refuse(file, ": ", alignment_key, " must be a power of 2, it is ", alignment);
    return alignment;
}

void require_header(cursor& at, std::span<const std::byte> file) {
    const std::string_view text(reinterpret_cast<const char*>(file.data()), std::min<std::size_t>(file.size(), 64));
    if (!text.starts_with(magic)) {
        if (const auto kind = mistaken_kind(text); !kind.empty()) refuse(at.name(), ": is ", kind);
        refuse(at.name(), ": is no GGUF file, it does not begin with \"", magic, "\"");
    }
    static_cast<void>(at.take(magic.size(), "the magic"));
    const auto version = at.number<std::uint32_t>("the version");
    if (version != 0 && (version & 0xFFFF) == 0) refuse(at.name(), ": is a big-endian GGUF file, only little-endian ones can be read");
    if (version != 2 && version != 3) refuse(at.name(), ": has version ", version, ", this program reads versions 2 and 3");
}

std::string bytes_of(std::uint64_t value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }
std::string bytes_of(std::uint32_t value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }

}  // namespace

const gguf_type* find_gguf_type(std::uint32_t number) {
    const auto found = std::find_if(types.begin(), types.end(), [&](const gguf_type& type) { return type.number == number; });
    return found == types.end() ? nullptr : &*found;
}

gguf_entry gguf_number(std::string key, std::uint32_t value) { return {std::move(key), gguf_value::u32, bytes_of(value)}; }

void set_entry(std::vector<gguf_entry>& metadata, gguf_entry entry) {
    const auto old = std::find_if(metadata.begin(), metadata.end(), [&](const gguf_entry& e) { return e.key == entry.key; });
    if (old == metadata.end())
        metadata.push_back(std::move(entry));
    else
        *old = std::move(entry);
}

std::uint64_t gguf_tensor_info::elements() const {
    std::uint64_t count = 1;
    for (const std::uint64_t size : sizes) count *= size;
    return count;
}

std::uint64_t gguf_tensor_info::bytes() const {
    const gguf_type* const known = find_gguf_type(type);
    return elements() / known->elements * known->bytes;
}

gguf_file::gguf_file(const std::filesystem::path& path) : file_(path) {
    const std::span<const std::byte> file = file_.bytes();
    const std::string name = path.string();
    cursor at(file, name);
    require_header(at, file);
    constexpr std::uint64_t least_tensor = 8 + 1 + 4 + 8 + 4 + 8, least_entry = 8 + 1 + 4 + 1;
    const std::uint64_t tensors = at.count(least_tensor, "tensors");
    const std::uint64_t entries = at.count(least_entry, "entries of metadata");
    std::set<std::string> keys;
    for (std::uint64_t i = 0; i < entries; ++i) {
        metadata_.push_back(read_entry(at));
        if (!keys.insert(metadata_.back().key).second) refuse(name, ": has the key ", metadata_.back().key, " twice");
    }
    for (std::uint64_t i = 0; i < tensors; ++i) {
        tensors_.push_back(read_tensor_info(at));
        if (!places_.emplace(tensors_.back().name, tensors_.size() - 1).second)
            refuse(name, ": has the tensor ", tensors_.back().name, " twice");
    }

    const std::uint64_t alignment = alignment_of(metadata_, name);
    const std::uint64_t data = aligned(at.position(), alignment);
    std::uint64_t offset = 0;
    for (gguf_tensor_info& info : tensors_) {
        if (info.begin != offset)
            refuse(name, ": tensor ", info.name, ": begins at offset ", info.begin, ", where ", offset, " was expected");
        const std::uint64_t bytes = info.bytes();
        if (data > file.size() || offset > file.size() - data || bytes > file.size() - data - offset)
            refuse(name, ": tensor ", info.name, ": its ", bytes, " bytes do not fit into the file's ", file.size());
        info.begin = data + offset;
        info.end = info.begin + bytes;
        offset = aligned(offset + bytes, alignment);
    }
    if (file.size() > data && file.size() - data > offset)
        refuse(name, ": has ", file.size(), " bytes, the tensors end at ", data + offset);
}

const gguf_entry* gguf_file::find_entry(std::string_view key) const {
    const auto entry = std::find_if(metadata_.begin(), metadata_.end(), [&](const gguf_entry& e) { return e.key == key; });
    return entry == metadata_.end() ? nullptr : &*entry;
}

std::optional<std::string> gguf_file::text(std::string_view key) const {
    const gguf_entry* const entry = find_entry(key);
    if (entry == nullptr) return {};
    if (entry->type != gguf_value::text) refuse(path().string(), ": ", key, " is not a text");
    return entry->bytes.substr(sizeof(std::uint64_t));  // behind its length
}

std::optional<std::uint64_t> gguf_file::number(std::string_view key) const {
    const gguf_entry* const entry = find_entry(key);
    if (entry == nullptr) return {};
    std::uint64_t value = 0;
    switch (entry->type) {
        case gguf_value::i8:
        case gguf_value::i16:
        case gguf_value::i32:
        case gguf_value::i64:
            if (static_cast<signed char>(entry->bytes.back()) < 0) refuse(path().string(), ": ", key, " is negative");
            [[fallthrough]];
        case gguf_value::u8:
        case gguf_value::u16:
        case gguf_value::u32:
        case gguf_value::u64: std::memcpy(&value, entry->bytes.data(), entry->bytes.size()); return value;
        default: refuse(path().string(), ": ", key, " is not a whole number");
    }
}

const gguf_tensor_info& gguf_file::tensor(const std::string& name) const {
    const auto place = places_.find(name);
    if (place == places_.end()) refuse(path().string(), ": tensor ", name, " is missing");
    return tensors_[place->second];
}

std::span<const std::byte> gguf_file::bytes(const std::string& name) const {
    const gguf_tensor_info& info = tensor(name);
    return file_.bytes().subspan(static_cast<std::size_t>(info.begin), static_cast<std::size_t>(info.end - info.begin));
}

void gguf_file::read(const std::string& name, std::span<float> values) const {
    const gguf_tensor_info& info = tensor(name);
    const std::span<const std::byte> source = bytes(name);
    if (info.type != gguf_f32 && info.type != gguf_f16 && info.type != gguf_bf16)
        refuse(path().string(), ": tensor ", name, ": the type must be F32, F16 or BF16, it is ", find_gguf_type(info.type)->name);
    if (values.size() != info.elements())
        refuse(path().string(), ": tensor ", name, ": has ", info.elements(), " elements, there must be ", values.size());
    const std::size_t width = info.type == gguf_f32 ? 4 : 2;
    constexpr std::size_t part = std::size_t{1} << 20;  // elements, so that not all of the bytes and the values are in memory at once
    for (std::size_t first = 0; first < values.size(); first += part) {
        const std::span<float> some = values.subspan(first, std::min(part, values.size() - first));
        const std::span<const std::byte> from = source.subspan(first * width, some.size() * width);
        const std::size_t bad = info.type == gguf_f32   ? decode_floats<float>(from, some)
                                : info.type == gguf_f16 ? decode_floats<Eigen::half>(from, some)
                                                        : decode_floats<Eigen::bfloat16>(from, some);
        release(from);
        if (bad != some.size()) refuse(path().string(), ": tensor ", name, ": element ", first + bad, " is not finite");
    }
}

gguf_writer::gguf_writer(const std::filesystem::path& path, std::span<const gguf_entry> metadata, std::vector<gguf_tensor_info> tensors)
    : file_(path), tensors_(std::move(tensors)), alignment_(alignment_of(metadata, path.string())) {
    std::string head(magic);
    head += bytes_of(written_version) + bytes_of(std::uint64_t{tensors_.size()}) + bytes_of(std::uint64_t{metadata.size()});
    for (const gguf_entry& entry : metadata) {
        head += bytes_of(std::uint64_t{entry.key.size()}) + entry.key;
        head += bytes_of(static_cast<std::uint32_t>(entry.type)) + entry.bytes;
    }
    std::uint64_t offset = 0;
    for (gguf_tensor_info& info : tensors_) {
        head += bytes_of(std::uint64_t{info.name.size()}) + info.name + bytes_of(static_cast<std::uint32_t>(info.sizes.size()));
        for (const std::uint64_t size : info.sizes) head += bytes_of(size);
        head += bytes_of(info.type) + bytes_of(offset);
        info.begin = std::exchange(offset, aligned(offset + info.bytes(), alignment_));
        info.end = info.begin + info.bytes();
    }
    const std::uint64_t data = aligned(head.size(), alignment_);
    for (gguf_tensor_info& info : tensors_) {
        info.begin += data;
        info.end += data;
    }
    file_.append(std::as_bytes(std::span(head)));
    position_ = head.size();
    pad();
}

void gguf_writer::append(std::span<const std::byte> part) {
    if (next_ == tensors_.size() || part.size() > tensors_[next_].end - position_)
        throw std::logic_error("gguf_writer: more data than the tensors have");
    file_.append(part);
    position_ += part.size();
    if (position_ < tensors_[next_].end) return;
    pad();
    ++next_;
}

void gguf_writer::pad() {
    const std::uint64_t end = aligned(position_, alignment_);
    const std::string zeros(static_cast<std::size_t>(end - position_), '\0');
    file_.append(std::as_bytes(std::span(zeros)));
    position_ = end;
}

void gguf_writer::commit() {
    if (next_ != tensors_.size()) throw std::logic_error("gguf_writer: tensor " + tensors_[next_].name + " was not written");
    file_.commit();
}

}  // namespace examples
