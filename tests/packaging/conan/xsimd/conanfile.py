# Stands in for the recipe `xsimd` of ConanCenter: packages the headers of the system under the same names.
from conan import ConanFile
from conan.tools.files import copy
from io import StringIO


def pkg_config(recipe, question):
    answer = StringIO()
    recipe.run(f"pkg-config {question} xsimd", stdout=answer)
    return answer.getvalue().strip()


class Xsimd(ConanFile):
    name = "xsimd"
    package_type = "header-library"

    def set_version(self):
        self.version = pkg_config(self, "--modversion")

    def package(self):
        copy(self, "xsimd/*", pkg_config(self, "--variable=includedir"), f"{self.package_folder}/include")

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "xsimd")
        self.cpp_info.set_property("cmake_target_name", "xsimd")
        self.cpp_info.set_property("pkg_config_name", "xsimd")
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
