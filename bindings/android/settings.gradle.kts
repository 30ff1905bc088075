// An Android library (AAR) of the JNI sketch. An application includes it: includeBuild("path/to/bindings/android"), or as a
// module of its own settings.
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}

dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}

rootProject.name = "libflashinfer"
