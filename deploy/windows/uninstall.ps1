<#
.SYNOPSIS
Removes the Windows service fim and its program.

.DESCRIPTION
Run it in an elevated PowerShell. Configuration, baseline and journal are kept, unless -Purge says
otherwise.

.PARAMETER InstallDir
Where the program lies.

.PARAMETER DataDir
Where configuration, baseline and journal lie.

.PARAMETER Purge
Remove these as well. The journal is evidence: keep a copy if somebody may ask for it.
#>
#Requires -Version 5.1
[CmdletBinding()]
param(
    [string]$InstallDir = (Join-Path $env:ProgramFiles 'fim'),
    [string]$DataDir = (Join-Path $env:ProgramData 'fim'),
    [switch]$Purge
)

$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2.0

$program = 'fim-windows-etw.exe'
$files = @($program, "$program.previous", 'uninstall.ps1', 'fim.toml', 'README.txt', 'SHA256SUMS')

$identity = [Security.Principal.WindowsIdentity]::GetCurrent()
$principal = New-Object Security.Principal.WindowsPrincipal($identity)
if (-not $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    throw 'This removes a service: run it in an elevated PowerShell (Run as administrator).'
}

$installed = Join-Path $InstallDir $program
if ($null -ne (Get-Service -Name 'fim' -ErrorAction SilentlyContinue)) {
    & $installed service uninstall | Out-Host
    if ($LASTEXITCODE -ne 0) { throw "service uninstall: exit code $LASTEXITCODE" }
}
# What is ours, by name: there may be something else in the directory.
foreach ($name in $files) {
    $path = Join-Path $InstallDir $name
    if (Test-Path -LiteralPath $path) { Remove-Item -LiteralPath $path -Force }
}
if ((Test-Path -LiteralPath $InstallDir) -and -not (Get-ChildItem -LiteralPath $InstallDir -Force)) {
    Remove-Item -LiteralPath $InstallDir
}
if ($Purge) {
    if (Test-Path -LiteralPath $DataDir) { Remove-Item -LiteralPath $DataDir -Recurse -Force }
    Write-Host 'removed, with configuration, baseline and journal'
}
else {
    Write-Host "removed; configuration, baseline and journal are kept in $DataDir"
}
