import re
from pathlib import Path

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy


class MagrConan(ConanFile):
    name = "magr"
    description = "Weight magnitude reduction (MagR) and low-bit quantization for inference engines"
    license = "MIT"
    homepage = "https://arxiv.org/abs/2406.00800"
    topics = ("quantization", "llm", "eigen", "simd", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    # compiled: also the static library magr::compiled, which is compiled once instead of in every file that includes the headers
    options = {"compiled": [True, False]}
    default_options = {"compiled": False}
    exports_sources = "include/*", "cmake/*", "CMakeLists.txt", "LICENSE"
    no_copy_source = True

    def set_version(self):
        header = Path(self.recipe_folder, "include/magr/version.hpp").read_text()
        self.version = ".".join(re.findall(r"#define MAGR_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header))

    def configure(self):
        if self.options.compiled:
            self.package_type = "static-library"

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        # Their headers are part of what hosts of magr::compiled include, too.
        self.requires("eigen/[>=3.4.0 <6]", transitive_headers=True)
        self.requires("xsimd/[>=8.1.0 <15]", transitive_headers=True)

    def package_id(self):
        if not self.info.options.compiled:
            self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)

    def generate(self):
        if self.options.compiled:
            CMakeDeps(self).generate()
            toolchain = CMakeToolchain(self)
            toolchain.cache_variables |= {"MAGR_BUILD_TESTS": False, "MAGR_BUILD_EXAMPLES": False, "MAGR_INSTALL_COMPILED": True}
            toolchain.generate()

    def build(self):
        if self.options.compiled:
            cmake = CMake(self)
            cmake.configure()
            cmake.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, Path(self.package_folder, "licenses"))
        copy(self, "*.hpp", Path(self.source_folder, "include"), Path(self.package_folder, "include"))
        if self.options.compiled:
            for library in "*.a", "*.lib":
                copy(self, library, self.build_folder, Path(self.package_folder, "lib"), keep_path=False)

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "magr")
        self.cpp_info.set_property("cmake_config_version_compat", "SameMinorVersion")
        headers = self.cpp_info
        if self.options.compiled:
            self.cpp_info.set_property("cmake_target_name", "magr::all")  # by default the name of one of the two
            headers = self.cpp_info.components["magr"]
            headers.requires = ["eigen::eigen", "xsimd::xsimd"]
            compiled = self.cpp_info.components["compiled"]
            compiled.set_property("cmake_target_name", "magr::compiled")
            compiled.set_property("pkg_config_name", "magr-compiled")
            compiled.requires = ["magr"]
            compiled.bindirs = []
            compiled.libs = ["magr_compiled"]
            compiled.defines = ["MAGR_COMPILED"]
        headers.set_property("cmake_target_name", "magr::magr")
        headers.set_property("pkg_config_name", "magr")
        headers.bindirs = []
        headers.libdirs = []
