#!/usr/share/openqa/script/load_templates
# What openqa-dump-templates prints without --json.
{
  JobGroups => [
    {
      group_name => "demo",
      template   => "products:\n  demo-DVD:\n    distri: demo\n    flavor: DVD\n    version: '1'\nscenarios:\n  x86_64:\n    demo-DVD:\n    - install:\n        machine: 64bit\n",
    },
  ],
  JobTemplates => [
    {
      group_name => "demo",
      machine    => { name => "64bit" },
      prio       => 50,
      product    => { arch => "x86_64", distri => "demo", flavor => "DVD", group => "demo-DVD", version => "1" },
      test_suite => { name => "install" },
    },
    {
      machine    => { name => "64bit" },
      product    => { arch => "x86_64", distri => "demo", flavor => "DVD", version => "1" },
      test_suite => { name => 'upgrade' },
    },
  ],
  Machines => [
    {
      backend  => "qemu",
      name     => "64bit",
      settings => [{ key => "QEMUCPU", value => "qemu64" }, { key => "QEMURAM", value => 1024 }],
    },
  ],
  Products => [
    { arch => "x86_64", distri => "demo", flavor => "DVD", name => "", settings => [], version => "1" },
  ],
  TestSuites => [
    { name => "install", settings => [] },
    { description => "it's \$good", name => "upgrade", prio => 44, settings => [{ key => "+HDD_1", value => '%A%@x' }] },
  ],
}
