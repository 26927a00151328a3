# Stands in for the recipe `eigen` of ConanCenter: packages the headers of the system under the same names.
from conan import ConanFile
from conan.tools.files import copy
from io import StringIO


def pkg_config(recipe, question):
    answer = StringIO()
    recipe.run(f"pkg-config {question} eigen3", stdout=answer)
    return answer.getvalue().strip()


class Eigen(ConanFile):
    name = "eigen"
    package_type = "header-library"

    def set_version(self):
        self.version = pkg_config(self, "--modversion")

    def package(self):
        headers = pkg_config(self, "--cflags-only-I").removeprefix("-I")
        for folder in "Eigen", "unsupported":
            copy(self, f"{folder}/*", headers, f"{self.package_folder}/include/eigen3")

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "Eigen3")
        self.cpp_info.set_property("cmake_target_name", "Eigen3::Eigen")
        self.cpp_info.set_property("pkg_config_name", "eigen3")
        self.cpp_info.includedirs = ["include/eigen3"]
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
